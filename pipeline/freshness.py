"""Times that agree with contents: what was made from what, told by manifests rather than by clocks.

`dvc checkout`, `git clone` and `cp` give files new modification times in any order, and Snakemake would run again
whatever seems older than its inputs, and keep whatever seems newer. A manifest names the digest of each input, so
the true order is known: outputs are dated after their inputs where the digests agree, and before them where not.
The same goes for settings, so that results which came with a clone are not taken for those of a changed recipe.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipeline import manifest
from pipeline.graph import Graph, Node

TIMESTAMP = ".snakemake_timestamp"  # stands for the time of a folder that a rule declares
SECOND = 1_000_000_000


def true_times(graph: Graph) -> dict[Path, int]:
    """The time, in nanoseconds, of each finished output that has another one on the disk; nothing is touched.

    An output whose inputs are missing keeps its time, and so does one whose manifest cannot be read: its stage
    says what is wrong.
    """
    times: dict[Path, int] = {}
    content = lru_cache(maxsize=None)(_content)  # one data set is what hundreds of cells read
    for node in graph:
        if node.inputs:
            _date(times, content, node.folder, "digest", [node.manifest], node)
    _date(times, content, graph.report, "sha256", sorted(graph.report.glob("*")))
    return times


def settle(graph: Graph, workflow: Any) -> None:
    """Tell Snakemake the true times, once: a run sets them on the disk, a dry run or a listing is told and sets none.

    Args:
        graph: of the study.
        workflow: Snakemake's, asked while it resolves inputs, before it looks at any time. A job on a cluster, or one
            in a process of its own, has nothing to decide.
    """
    if getattr(workflow, "settled", False) or not workflow.is_main_process:
        return
    workflow.settled = True
    runs = workflow.executor_plugin is not None and not workflow.dryrun
    for path, time in true_times(graph).items():
        if runs:
            os.utime(carrier(path), ns=(time, time))
        else:
            from snakemake_interface_storage_plugins.io import Mtime

            workflow.iocache.mtime[str(path)] = Mtime(local=time / SECOND)


def carrier(path: Path) -> Path:
    """The file that carries an output's time: of a folder that Snakemake knows, one within."""
    return path / TIMESTAMP if (path / TIMESTAMP).exists() else path


def _date(
    times: dict[Path, int],
    content: Callable[[Path, str], str],
    folder: Path,
    kind: str,
    products: Iterable[Path],
    node: Node | None = None,
) -> None:
    """Add the products of one manifest; `kind` is how it tells the contents of its inputs."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        found = json.loads((folder / "manifest.json").read_text())
        expected = {Path(entry.get("manifest", name)): entry[kind] for name, entry in found["inputs"].items()}
        before = [times.get(path, path.stat().st_mtime_ns) for path in expected]
        agree = node is None or node.decisive(found["settings"]) == node.identity
        agree = agree and all(content(path, kind) == told for path, told in expected.items())
        for product in products:
            time = carrier(product).stat().st_mtime_ns
            right = max(time, *before) if agree else min(time, max(before) - SECOND)
            if right != time:
                times[product] = right


def _content(path: Path, kind: str) -> str:
    return manifest.sha256(path) if kind == "sha256" else json.loads(path.read_text())["digest"]
