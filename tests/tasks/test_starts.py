"""Cells of seconds start in seconds: a task that trains nothing does not import what trains."""

import subprocess
import sys

import pytest

TRAINING = {"mmengine.runner", "mmengine.optim", "mmdet", "mmseg", "torch._dynamo"}


@pytest.mark.parametrize("task", ["knn", "continual", "multilabel"])
def test_a_short_task_imports_nothing_of_training(task):
    code = f"import sys, pipeline.tasks.{task}; print(*sorted({TRAINING!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == []
