"""Evaluation over two processes gives the records and files of one, to the last bit."""

import contextlib
import json
import subprocess
import sys

import pytest

from pipeline.cell import Cell
from pipeline.config import load_study
from pipeline.engine.pretrain import pretrain
from pipeline.graph import Graph
from tests.real import environment, run
from tests.tasks.shared import SETS, TASKS, measure_all, write


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """By number of processes, what they found."""
    root = tmp_path_factory.mktemp("shared")
    for name in ("one", "two"):
        write(root / name)
    for name in SETS:
        run(root / "one", "prepare", "--data", f"smoke-{name}")
    with contextlib.chdir(root / "one"):
        graph = Graph(load_study("config/tiny.yaml"))
        for name in graph.study.runs:
            pretrain(Cell(graph.node("pretrain", name, 0)))
        alone = json.loads(json.dumps(measure_all()))
    for part in ("data", "results"):
        (root / "two" / part).symlink_to(root / "one" / part)
    command = [sys.executable, "-m", "pipeline.engine.loopback", "--nproc-per-node=2", "-m", "tests.tasks.shared"]
    done = subprocess.run([*command, str(root / "two")], env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return alone, json.loads((root / "two/found.json").read_text())


@pytest.mark.parametrize("task", TASKS)
def test_two_processes_measure_what_one_does(found, task):
    alone, together = (part[task] for part in found)
    assert alone["records"] and alone["records"] == together["records"]
    assert alone["files"] == together["files"]
