"""Times that agree with contents: what was made from what, told by manifests rather than by clocks.

`dvc checkout`, `git clone` and `cp` give files new modification times in any order, and Snakemake would run again
whatever seems older than its inputs, and keep whatever seems newer. A manifest names the digest of each input, so
the true order is known: outputs are dated after their inputs where the digests agree, and before them where not.
The same goes for settings, so that results which came with a clone are not taken for those of a changed recipe.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline import manifest
from pipeline.config import Study

TIMESTAMP = ".snakemake_timestamp"  # stands for the time of a folder that a rule declares


def settle(study: Study) -> None:
    """Date every finished output of a study by the contents it was made from.

    An output whose inputs are missing keeps its time, and so does one whose manifest cannot be read: its stage
    says what is wrong.
    """
    pretrained = [("pretrain", run, seed) for run in _teachers_first(study) for seed in study.runs[run].seeds]
    tasks = [cell for cell in study.cells() if cell[0] != "pretrain"]
    for stage, run, seed in (*pretrained, *tasks):
        folder = study.folder(stage, run, seed)
        _settle(folder, "digest", [folder / "manifest.json", folder / "files"], study.settings(stage, run))
    report = Path("reports") / study.name
    _settle(report, "sha256", sorted(report.glob("*")))


def _settle(folder: Path, kind: str, products: Iterable[Path], settings: Mapping[str, Any] | None = None) -> None:
    """Date the products of one manifest; `kind` is how it tells the contents of its inputs."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        found = json.loads((folder / "manifest.json").read_text())
        expected = {Path(entry.get("manifest", name)): entry[kind] for name, entry in found["inputs"].items()}
        times = [path.stat().st_mtime_ns for path in expected]
        agree = settings is None or found["settings"] == settings
        agree = agree and all(_content(path, kind) == content for path, content in expected.items())
        for product in products:
            # A folder that Snakemake knows carries its time in a file within.
            carrier = product / TIMESTAMP if (product / TIMESTAMP).exists() else product
            time = carrier.stat().st_mtime_ns
            right = max(time, *times) if agree else min(time, max(times) - 1_000_000_000)
            if right != time:
                os.utime(carrier, ns=(right, right))


def _content(path: Path, kind: str) -> str:
    return manifest.sha256(path) if kind == "sha256" else json.loads(path.read_text())["digest"]


def _teachers_first(study: Study) -> list[str]:
    def depth(run: str) -> int:
        teacher = study.runs[run].teacher
        return 0 if teacher is None else 1 + depth(teacher)

    return sorted(study.runs, key=depth)
