"""Run cells of a study again in a folder of their own, and say whether they give the same result.

Reads:  the cells' manifests, and all that their commands read
Writes: work/verify/<study>/<cell>/, removed where the result is equal and kept to look at where it is not

Equal means every file and every measured number, bit by bit. Interrupted, it goes on where it was when the same cell is
asked for again. Ends with 1 where a cell differs or could not be run.
"""

from __future__ import annotations

import argparse
import random
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.config import ConfigError, flatten, load_study
from pipeline.graph import Graph, Node
from pipeline.manifest import ManifestError, read

OWN = ("data", "results", "work", "logs", "reports")  # of what stands at the top: the cell has folders of its own
SHOWN = 4  # differences of one cell


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m stages.verify", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--study", default="config/demo.yaml", metavar="FILE", help="default: %(default)s")
    parser.add_argument("--num", type=_positive, default=5, help="how many to draw where none is named (default: 5)")
    parser.add_argument("cells", nargs="*", metavar="CELL", help="such as knn/mae-0; without one, drawn at random")
    arguments = parser.parse_args()
    try:
        study = load_study(arguments.study)
        done = {cell_name(node): node for node in Graph(study) if node.manifest.is_file()}
        if not done:
            raise ConfigError(f"no cell of {study.path} is done; run the study first, as with `make demo`")
        chosen = [_find(cell, done, study.name) for cell in arguments.cells]
    except (ConfigError, ManifestError) as error:
        sys.exit(f"error: {error}")
    chosen = chosen or random.SystemRandom().sample(sorted(done), min(arguments.num, len(done)))
    equal = 0
    for name in chosen:
        print(f"{name}: running again …", flush=True)
        started = time.monotonic()
        told = differences(done[name])
        seconds = time.monotonic() - started
        equal += not told
        print(f"{name}: {'; '.join(told) if told else 'equal'} ({seconds:,.0f} s)", flush=True)
    print(f"{equal} of {len(chosen)} equal")
    sys.exit(equal < len(chosen))


def cell_name(node: Node) -> str:
    """`knn/mae-0`, `pretrain/mae-0`, `prepare/digits`."""
    return node.name.replace("@", "/")


def differences(node: Node) -> list[str]:
    """Run a node again beside what it published; nothing where both are equal, else what is not, in words."""
    try:
        before = read(node.manifest)
    except ManifestError as error:
        return [f"failed: {error}"]
    place = Path("work/verify") / node.study.name / cell_name(node).replace("/", "-")
    if (place / node.manifest).exists():  # of an earlier time, kept to look at: it would be found finished
        shutil.rmtree(place)
    _lay_out(node, place)
    command = shlex.split(node.command)
    with (place / "verify.log").open("a") as log:
        done = subprocess.run([sys.executable, *command[1:]], cwd=place, stdout=log, stderr=subprocess.STDOUT)
    if done.returncode:
        last = (place / "verify.log").read_text().strip().splitlines()[-1:]
        return [f"failed: {' '.join(last)[:300]} (all of it in {place / 'verify.log'})"]
    after = read(place / node.manifest)
    found = compare(before, after)
    if not found:
        shutil.rmtree(place)
        return []
    commits = [manifest.get("provenance", {}).get("commit") for manifest in (before, after)]
    if commits[0] != commits[1]:
        found.append(f"the code is another: commit {commits[0]}, now {commits[1]}")
    return [f"DIFFERS: {found[0]}", *found[1:], f"kept in {place}"]


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """In what two manifests of one node are not equal, in words."""
    found = []
    old, new = (flatten(manifest.get("settings", {})) for manifest in (before, after))
    if keys := sorted(key for key in {*old, *new} if old.get(key) != new.get(key)):
        found.append(f"settings differ in {_some(keys)}")
    for part, entry in before.get("inputs", {}).items():
        if after.get("inputs", {}).get(part, {}).get("digest") != entry["digest"]:
            found.append(f"another {part} was read")
    values = [
        {record["metric"]: record["value"] for record in manifest.get("records", [])} for manifest in (before, after)
    ]
    if metrics := [metric for metric in {**values[0], **values[1]} if values[0].get(metric) != values[1].get(metric)]:
        found.append(_some([f"{metric} {values[0].get(metric)} and now {values[1].get(metric)}" for metric in metrics]))
    files = [{name: entry["sha256"] for name, entry in manifest["artefacts"].items()} for manifest in (before, after)]
    if names := [name for name in {**files[0], **files[1]} if files[0].get(name) != files[1].get(name)]:
        found.append(f"other bytes in {_some(names)}")
    return found


def _lay_out(node: Node, place: Path) -> None:
    """A tree in which the node finds all that it reads, and publishes into folders that are its own."""
    place.mkdir(parents=True, exist_ok=True)
    links = [path for path in Path().iterdir() if path.name not in OWN and not path.name.startswith(".")]
    links += node.inputs.values()
    if node.stage != "prepare":
        links += [Path("data") / path.name for path in Path("data").iterdir() if path.is_dir()]
    for path in links:
        link = place / path
        if not link.is_symlink():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())


def _find(cell: str, done: Mapping[str, Node], study: str) -> str:
    """A cell by its name or by the path of its folder or manifest."""
    name = cell.removeprefix("./").removesuffix("/manifest.json").rstrip("/")
    name = name.removeprefix(f"results/{study}/").replace("data/", "prepare/").replace("@", "/")
    if name not in done:
        some = ", ".join(sorted(done)[:5])
        raise ConfigError(f"{cell!r} is no cell of the study that is done; done are {len(done)}, such as {some}")
    return name


def _some(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"received {text!r}; expected a whole number of at least 1")
    return int(text)


if __name__ == "__main__":
    main()
