"""Times that agree with contents: what was made from what, told by manifests rather than by clocks.

`dvc checkout`, `git clone` and `cp` give files new modification times in any order, and Snakemake would run again
whatever seems older than its inputs. A manifest names the digest of each input, so the true order is known: where
the digests agree, the outputs are given the time of their newest input.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from pipeline import manifest
from pipeline.config import Study

TIMESTAMP = ".snakemake_timestamp"  # stands for the time of a folder that a rule declares


def settle(study: Study) -> None:
    """Give every finished output of a study at least the time of the inputs it was made from.

    An output whose inputs have changed keeps its own time, and so is found to be out of date as usual.
    """
    reports = Path("reports") / study.name
    pretrained = [study.folder("pretrain", run, seed) for run in _teachers_first(study) for seed in study.seeds]
    tasks = [study.folder(*cell) for cell in study.cells() if cell[0] != "pretrain"]
    for folder in (*pretrained, *tasks):
        if (found := _read(folder)) is not None:
            entries = found["inputs"].values()
            if all((_read(Path(entry["manifest"]).parent) or {}).get("digest") == entry["digest"] for entry in entries):
                _not_before([Path(entry["manifest"]) for entry in entries], [folder / "manifest.json", folder / "files"])
    if (found := _read(reports)) is not None:
        inputs = {Path(name): entry["sha256"] for name, entry in found["inputs"].items()}
        if all(path.is_file() and manifest.sha256(path) == expected for path, expected in inputs.items()):
            _not_before(inputs, reports.iterdir())


def _not_before(inputs: Iterable[Path], products: Iterable[Path]) -> None:
    try:
        newest = max(path.stat().st_mtime for path in inputs)
        for product in products:
            # A folder that Snakemake knows carries its time in a file within.
            carrier = product / TIMESTAMP if (product / TIMESTAMP).exists() else product
            if carrier.stat().st_mtime < newest:
                os.utime(carrier, (newest, newest))
    except FileNotFoundError:
        return  # another process is writing there just now


def _teachers_first(study: Study) -> list[str]:
    def depth(run: str) -> int:
        teacher = study.runs[run].teacher
        return 0 if teacher is None else 1 + depth(teacher)

    return sorted(study.runs, key=depth)


def _read(folder: Path) -> dict | None:
    try:
        return json.loads((folder / "manifest.json").read_text())
    except (OSError, ValueError):
        return None
