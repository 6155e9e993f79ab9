"""Pretraining on solids, whose batches are graphs of differing sizes: killed, it ends with the same bits."""

import re
import signal
import subprocess

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.real import command, environment, run, write

BREP = ("pretrain", "--run", "brep-ssl", "--seed", "0")
OUT = "results/tiny/pretrain/brep-ssl-0"


def project(folder):
    """The smoke study's, its B-Rep SSL long enough to be killed between checkpoints."""
    study = folder / write(folder)
    told = yaml.safe_load(study.read_text())
    told["runs"]["brep-ssl"]["set"] |= {"train.duration": "30 steps", "train.checkpoint_every": 5}
    told["data"]["smoke-machined"] |= {"parts": 6, "num_reference": 100}
    study.write_text(yaml.safe_dump(told))
    return folder


@pytest.mark.slow
def test_killed_at_a_step_it_ends_with_the_same_bits(tmp_path):
    whole, cut = (project(tmp_path / name) for name in ("whole", "cut"))
    run(whole, "prepare", "--data", "smoke-machined")
    (cut / "data").symlink_to(whole / "data")
    run(whole, *BREP)
    process = subprocess.Popen(
        command(*BREP), cwd=cut, env=environment(PYTHONUNBUFFERED="1"), stdout=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if line.startswith("step 14/"):
            process.kill()
            break
    assert process.wait() == -signal.SIGKILL and not (cut / OUT / "manifest.json").exists()
    assert 10 <= int(re.search(r"resumed at step (\d+)", run(cut, *BREP).stdout)[1]) < 30
    expected, got = (load_file(folder / OUT / "files/method.safetensors") for folder in (whole, cut))
    assert expected and all(torch.equal(expected[name], got[name]) for name in expected)
