"""Pretraining of each kind of system, killed in the midst of its phases: run again, it publishes the same bits.

pytest -m slow tests/engine/test_resume.py        ten minutes; `test_pretrain.py` has MAE's, and is not slow
"""

import random
import signal
import subprocess
import sys

import pytest
import yaml

from pipeline import manifest
from tests.real import environment, run, write

pytestmark = pytest.mark.slow
RUNS = {  # of the smoke study, with the set that each learns from
    "mae-st": "smoke-moving-digits",
    "m3ae": "smoke-captions",
    "elo-search": "smoke-moving-sounds",
    "brep-ssl": "smoke-machined",
    "exssnet": "smoke-digit-pairs",
    "exssnet-text": "smoke-topics",
    "meta-labels": "smoke-mentions",
}
TIMES = 3  # that each is killed
KILLER = """
import os, signal, sys
from pipeline.engine.hooks import LogHook
plain, fate, steps = LogHook.after_train_iter, int(sys.argv.pop(1)), [0]
def after_train_iter(self, *arguments, **more):
    steps[0] += 1
    if steps[0] == fate:
        os.kill(os.getpid(), signal.SIGKILL)
    plain(self, *arguments, **more)
LogHook.after_train_iter = after_train_iter
from stages.pretrain import main
main()
print("steps:", steps[0])
"""


def pretrain(folder, name, fate):
    """Killed after so many steps, or never; SIGKILL leaves no time to save."""
    command = [sys.executable, "-c", KILLER, str(fate), "--study", "config/tiny.yaml", "--run", name, "--seed", "0"]
    return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def projects(tmp_path_factory):
    """One to run in peace, and one to be killed in, with the same data."""
    whole, cut = (tmp_path_factory.mktemp("resume") / name for name in ("whole", "cut"))
    for folder in (whole, cut):
        study = folder / write(folder)
        content = yaml.safe_load(study.read_text())
        for name in ("mae-st", "m3ae", "brep-ssl"):  # the others have phases of two steps and three
            content["runs"][name]["set"] |= {"train.duration": "12 steps", "train.checkpoint_every": 2}
        content["runs"]["exssnet-text"]["set"]["train.checkpoint_every"] = 1
        study.write_text(yaml.safe_dump(content))
    for data in RUNS.values():
        run(whole, "prepare", "--data", data)
    (cut / "data").symlink_to(whole / "data")
    return whole, cut


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", RUNS)
def test_killed_in_the_midst_it_publishes_the_same_bits(projects, name):
    whole, cut = projects
    done = pretrain(whole, name, 0)
    assert done.returncode == 0, done.stderr
    number = int(done.stdout.rsplit("steps:", 1)[1])
    draw = random.Random()
    for _ in range(TIMES):
        fate = draw.randint(3, max(3, number // (TIMES + 1)))  # checkpoints are two steps apart
        done = pretrain(cut, name, fate)
        assert done.returncode == -signal.SIGKILL, (fate, number, done.stdout[-2000:], done.stderr[-2000:])
    done = pretrain(cut, name, 0)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.rsplit("steps:", 1)[1]) < number, "it began anew"
    found = [manifest.verify(top / f"results/tiny/pretrain/{name}-0/manifest.json") for top in projects]
    for part in ("artefacts", "records", "digest"):
        assert found[0].get(part) == found[1].get(part), part
