"""Two processes and several micro-batches do what one process does with the whole batch, or at least finish."""

import contextlib
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from pipeline.manifest import verify
from tests.engine.together import EQUAL, EQUAL_TASKS, MAPS, STEPS, UNEQUAL, UNEQUAL_TASKS, lines, train_all, write
from tests.real import environment, run

SHARES = ("one-2", "two-2")  # processes, and micro-batches of each


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """One project for each way of sharing out a batch, all cases trained in it."""
    root = tmp_path_factory.mktemp("ranks")
    for name in ("one-1", *SHARES):
        write(root / name)
        if name != "one-1":
            (root / name / "data").symlink_to(root / "one-1/data")
    for name in ("digits", "scenes-coco", "scenes-ade20k", "moving-digits", "mentions"):
        run(root / "one-1", "prepare", "--data", f"smoke-{name}")
    for name in ("one-1", "one-2"):
        with contextlib.chdir(root / name):
            train_all(int(name[-1]))
    command = [sys.executable, "-m", "pipeline.engine.loopback", "--nproc-per-node=2", "-m"]
    pair = [*command, "tests.engine.together", str(root / "two-2")]
    done = subprocess.run(pair, env=environment(), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return root


def published(folder, name):
    """Tensors and log of a pretraining."""
    files = folder / f"results/tiny/pretrain/{name}-0/files"
    return load_file(files / "method.safetensors"), lines(files / "log.jsonl")


def kept(folder, stage, run="mae"):
    """Tensors and log of a task, which nobody has published."""
    (work,) = folder.glob(f"work/tiny/{stage}/{run}-0-*/")
    newest = sorted(work.glob("step-*.pt"))[-1]
    return torch.load(newest, weights_only=True)["model"], lines(work / "files/log.jsonl")


def assert_equal(trained, other):
    """Tensors and logs agree to 1e-5 of the largest number."""
    (expected, told), (got, retold) = trained, other
    for key, tensor in expected.items():
        assert torch.allclose(tensor, got[key], rtol=0, atol=1e-5 * float(tensor.abs().max())), key
    assert len(told) == len(retold) == STEPS
    for line, again in zip(told, retold, strict=True):
        assert again == pytest.approx(line, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("name", EQUAL)
def test_how_a_batch_is_shared_out_changes_nothing(folders, name, share):
    assert_equal(published(folders / "one-1", name), published(folders / share, name))


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("stage", EQUAL_TASKS)
def test_nor_does_it_in_a_task(folders, stage, share):
    assert_equal(kept(folders / "one-1", stage), kept(folders / share, stage))


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("name", UNEQUAL)
def test_others_finish_however_a_batch_is_shared_out(folders, name, share):
    _, told = published(folders / share, name)
    phases = len({line.get("phase") for line in told})
    assert [line["step"] for line in told] == list(range(1, phases * STEPS + 1)), UNEQUAL[name][0]
    verify(folders / share / f"results/tiny/pretrain/{name}-0/manifest.json")


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize(
    ("stage", "run"), [*((stage, "mae") for stage in UNEQUAL_TASKS), *((stage, "mixmask") for stage in MAPS)]
)
def test_other_tasks_finish_too(folders, stage, run, share):
    _, alone = kept(folders / "one-1", stage, run)
    _, told = kept(folders / share, stage, run)
    assert [line["step"] for line in told] == [line["step"] for line in alone], UNEQUAL_TASKS[stage]
