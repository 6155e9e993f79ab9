"""Pretraining as users run it: processes that are killed, that share out a batch, that meet each other."""

import json
import os
import random
import re
import signal
import subprocess

import pytest
import torch
from safetensors.torch import load_file

from pipeline import manifest
from tests.real import command, environment, run, write

STEPS = 40
CHANGES = {"train.duration": f"{STEPS} steps", "train.checkpoint_every": 5, "train.log_every": 1}
MAE = ("pretrain", "--run", "mae", "--seed", "0")
OUT = "results/tiny/pretrain/mae-0"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A project in which MAE was trained without interruption."""
    folder = tmp_path_factory.mktemp("whole")
    write(folder, CHANGES)
    run(folder, "prepare", "--data", "smoke-digits")
    run(folder, *MAE)
    return folder


@pytest.fixture
def other(whole, tmp_path):
    """The same project with its data, and nothing trained."""
    folder = tmp_path / "other"
    write(folder, CHANGES)
    (folder / "data").symlink_to(whole / "data")
    return folder


def weights(folder):
    return load_file(folder / OUT / "files" / "method.safetensors")


def test_what_is_published_is_whole(whole):
    found = manifest.verify(whole / OUT / "manifest.json")
    assert set(found["artefacts"]) == {
        f"files/{name}" for name in ("encoder.safetensors", "method.safetensors", "log.jsonl", "pictures.png")
    }
    assert found["cost"]["samples"] == STEPS * 16 and found["cost"]["flops_per_sample"] > 1e6
    lines = (whole / OUT / "files/log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, STEPS + 1))
    assert not any((whole / "work/tiny/pretrain").iterdir())


def test_the_encoder_is_what_the_method_trained(whole):
    method = weights(whole)
    encoder = load_file(whole / OUT / "files" / "encoder.safetensors")
    assert all(torch.equal(value, method[f"encoder.{name}"]) for name, value in encoder.items())


def test_killed_at_a_random_step_it_ends_with_the_same_bits(whole, other):
    step = random.SystemRandom().randrange(10, STEPS - 10)
    process = subprocess.Popen(
        command(*MAE), cwd=other, env=environment(PYTHONUNBUFFERED="1"), stdout=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if line.startswith(f"step {step + 1}/"):
            process.kill()
            break
    assert process.wait() == -signal.SIGKILL, f"not killed after step {step}"
    assert not (other / OUT / "manifest.json").exists()
    again = run(other, *MAE)
    resumed = int(re.search(r"resumed at step (\d+)", again.stdout)[1])
    # A step is saved after its own line by a thread, which may be at it still; it has ended with the one before.
    assert resumed % 5 == 0 and 5 * (step // 5 - 1) <= resumed < STEPS, f"killed at step {step}"
    expected, got = weights(whole), weights(other)
    assert all(torch.equal(expected[name], got[name]) for name in expected), f"killed at step {step}"


def test_a_second_process_waits_for_who_holds_the_run_and_ends_with_its_result(other):
    process = subprocess.Popen(
        command(*MAE), cwd=other, env=environment(PYTHONUNBUFFERED="1"), stdout=subprocess.PIPE, text=True
    )
    try:
        process.stdout.readline()  # the first step is done, so the lock is held
        os.kill(process.pid, signal.SIGSTOP)  # it stays in the middle of its training
        second = subprocess.Popen(
            command(*MAE), cwd=other, env=environment(PYTHONUNBUFFERED="1"), stdout=subprocess.PIPE, text=True
        )
        assert f"is held by process {process.pid} on" in second.stdout.readline()
        os.kill(process.pid, signal.SIGCONT)
        said, _ = second.communicate()
        assert second.returncode == process.wait() == 0
        assert "finished: results/tiny/pretrain/mae-0 holds this result" in said and "step " not in said
        assert not any((other / "work/tiny/pretrain").iterdir())
    finally:
        process.kill()
        process.wait()


def test_two_processes_equal_one_on_the_same_global_batch(whole, other):
    run(other, *MAE, UNMASK_NUM_PROCESSES="2")
    found = manifest.verify(other / OUT / "manifest.json")
    assert found["cost"]["num_devices"] == 2
    expected, got = weights(whole), weights(other)
    for name in expected:
        difference = (expected[name] - got[name]).abs()
        if name.endswith("qkv.bias"):  # softmax ignores the keys' bias: its gradient is rounding, which Adam blows up
            queries, _, values = difference.chunk(3)
            difference = torch.cat([queries, values])
        assert difference.max() < 1e-4, name


def test_preempted_it_leaves_with_a_code_to_try_again_and_resumes(other):
    process = subprocess.Popen(
        command(*MAE), cwd=other, env=environment(PYTHONUNBUFFERED="1"), stdout=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if line.startswith("step 7/"):
            os.kill(process.pid, signal.SIGUSR2)
            break
    rest = process.stdout.read()
    assert process.wait() == 75
    assert "preempted: saved at step" in rest
    assert "resumed at step" in run(other, *MAE).stdout
