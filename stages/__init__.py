"""One thin script per node type of the graph: what it reads, what it writes, one call."""

from __future__ import annotations

import argparse
import errno
import gc
import os
import shutil
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline import manifest
from pipeline.cell import Cell
from pipeline.config import load_study, sizes
from pipeline.files import write_atomic
from pipeline.graph import Graph
from pipeline.lock import Lock, LockError


@contextmanager
def stage(name: str, doc: str) -> Iterator[Cell]:
    """Parse the command line of a stage, hold its work directory, and tell of failures in one clear line.

    Args:
        name: the stage.
        doc: its module docstring, shown by `--help`.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m stages.{name}", description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--study", required=True, metavar="FILE", help="the study, such as config/demo.yaml")
    if name == "prepare":
        parser.add_argument("--data", required=True, metavar="NAME", help="a data set of the study")
    else:
        if name == "evaluate":
            parser.add_argument("--task", required=True, help="a task of the study")
        parser.add_argument("--run", required=True, help="a run of the study")
        parser.add_argument("--seed", required=True, type=int, help="a seed of the study")
    arguments = parser.parse_args()
    first = int(os.environ.get("RANK", "0")) == 0
    cell = None
    try:
        graph = Graph(load_study(arguments.study))
        if name == "prepare":
            cell = Cell(graph.node(name, arguments.data))
        else:
            task = arguments.task if name == "evaluate" else name
            cell = Cell(graph.node(task, arguments.run, arguments.seed))
        if not first:
            _follow(cell)
            yield cell
            return
        with Lock(cell.lock):
            finished = cell.finished()
            if not finished:
                try_writing(cell.folder)
                check_sizes(cell)
            _lead(cell, finished)
            if finished:
                print(f"finished: {cell.folder} holds this result, whole; nothing was done (to make it again, remove "
                      "that folder)", flush=True)  # fmt: skip
                sys.exit(0)
            yield cell
    except LockError as error:
        sys.exit(f"error: {error}")  # the holder is at work: this cell has not failed
    except Exception as error:
        if cell is not None and first:
            cell.fail(error)
        told = " ".join((refusal(error) if isinstance(error, OSError) else str(error)).split())
        if (isinstance(error, OSError) and error.strerror is not None) or isinstance(error, shutil.Error):
            sys.exit(f"error: {told}")  # the system's word on a file says all there is to say, too
        if not type(error).__module__.startswith("pipeline."):  # our own errors say all there is to say
            traceback.print_exc()
            told = f"{type(error).__name__}: {told}"
        sys.exit(f"error: {told}")


@contextmanager
def loading() -> Iterator[None]:
    """Import what a stage needs without a search for garbage on the way, and keep it out of all later searches.

    A million objects come with PyTorch, timm and MMEngine, and stay: looking through them again and again was a sixth
    of the start of a cell.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


# The first of several processes may wait long for the cell, and then find that nothing is to be done. The others hear
# of it by a file: a rendezvous would not wait so long.


def _launch() -> str:
    """What all processes that torchrun started together know it by, and no others: a requeued job keeps its number."""
    names = ("TORCHELASTIC_RUN_ID", "MASTER_PORT", "TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")
    return " ".join(os.environ.get(name, "-") for name in names)


def _lead(cell: Cell, finished: bool) -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        write_atomic(_word(cell), f"{_launch()} {finished}")


def _follow(cell: Cell) -> None:
    while not _word(cell).is_file() or not (told := _word(cell).read_text()).startswith(f"{_launch()} "):
        time.sleep(0.2)
    if told.endswith("True"):
        sys.exit(0)


def _word(cell: Cell) -> Path:
    return cell.lock.with_suffix(".launch")


def check_sizes(cell: Cell) -> None:
    """Hold what a run and its tasks ask of their sets against those sets, as far as they are prepared.

    Raises:
        ConfigError: one of them is too small.
    """
    if cell.stage == "prepare":
        return  # it does so itself, once it knows
    stages = ("pretrain", *cell.study.tasks) if cell.stage == "pretrain" else (cell.stage,)
    for name, spec in cell.study.data.items():
        path = spec.folder / "manifest.json"
        if path.is_file() and (data := manifest.read(path).get("data")):
            sizes.check(cell.study, name, data, stages, (cell.node.run,))


def try_writing(folder: Path) -> None:
    """Write to the folder where a result will be published and remove it again, before hours are spent on the result.

    Raises:
        OSError: it cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trial = folder / f".trial.{os.getpid()}"
    try:
        trial.write_bytes(bytes(2**20))
    finally:
        trial.unlink(missing_ok=True)


def refusal(error: OSError) -> str:
    """What the system refused, with the file and the way out."""
    while isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list):
        where, _, why = error.args[0][0]  # of many, as a copy of a folder has them
        error = OSError(getattr(why, "errno", None), str(why), where)
    files = " and ".join(str(file) for file in (error.filename, error.filename2) if file is not None)
    hints = {
        errno.ENOSPC: "; free some space there and run this again to go on",
        errno.EDQUOT: "; the quota is used up: free some space and run this again to go on",
        errno.EROFS: "; results, work and logs need a file system that can be written to",
        errno.EACCES: "; expected a place that this user may read and write",
    }
    return f"{files or 'the system'}: {error.strerror or error}{hints.get(error.errno or 0, '')}"
