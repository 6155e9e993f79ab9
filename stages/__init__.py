"""One thin script per node type of the graph: what it reads, what it writes, one call."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from pipeline.cell import Cell
from pipeline.config import load_study
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
        with Lock(cell.work) if first else nullcontext():
            yield cell
    except LockError as error:
        sys.exit(f"error: {error}")  # the holder is at work: this cell has not failed
    except Exception as error:
        if cell is not None and first:
            cell.fail(error)
        told = " ".join(str(error).split())
        if not type(error).__module__.startswith("pipeline."):  # our own errors say all there is to say
            traceback.print_exc()
            told = f"{type(error).__name__}: {told}"
        sys.exit(f"error: {told}")
