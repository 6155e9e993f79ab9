"""What befalls jobs of a cluster, twenty times: every cell ends, and repeats at most one checkpoint interval.

pytest -m slow tests/workflow/test_slurm_trouble.py        half an hour; full scratch needs the right to mount
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from pipeline.manifest import verify
from tests.workflow.slurm import MARKS, finished, jobs

pytestmark = [*MARKS, pytest.mark.slow]
STEPS, INTERVAL, ROUNDS = 200, 20, 20
RUN = "mae-0"  # on both nodes, two processes each
LONG = {"train.duration": f"{STEPS} steps", "train.warmup": "10 steps", "train.checkpoint_every": INTERVAL,
        "train.log_every": 1, "train.batch_size": 16}  # fmt: skip


class Round:
    """A study of one pretraining on two nodes and its k-NN, under way."""

    def __init__(self, clone, cluster, snakemake, name):
        self.clone, self.environment, self.name, self._snakemake = clone, cluster, name, snakemake
        smoke = yaml.safe_load((clone / "config/smoke.yaml").read_text())
        content = {
            "data": {"smoke-digits": smoke["data"]["smoke-digits"]},
            "seeds": [0],
            "runs": {"mae": {**smoke["runs"]["mae"], "set": LONG}},
            "tasks": {"knn": {**smoke["tasks"]["knn"], "runs": ["mae"]}},
        }
        rest = {key: value for key, value in smoke.items() if key not in ("comparisons", *content)}
        (clone / f"config/{name}.yaml").write_text(yaml.safe_dump({**rest, **content}))
        self.pretrained = clone / f"results/{name}/pretrain/{RUN}/manifest.json"
        self.measured = clone / f"results/{name}/knn/{RUN}/manifest.json"
        self.start()

    def start(self):
        self.process = self._snakemake(f"config/{self.name}.yaml", str(self.measured.relative_to(self.clone)))

    def slurm(self, *command):
        return subprocess.run(command, cwd=self.clone, env=self.environment, check=True, capture_output=True, text=True)

    def job(self):
        """The pretraining's, running."""
        return next(str(job) for job, about in jobs(self.environment).items() if about[0] == "RUNNING")

    def work(self):
        return next(iter((self.clone / f"work/{self.name}/pretrain").glob(f"{RUN}-*")), None)

    def step(self):
        """The last that stands in the log, from any attempt."""
        work = self.work()
        with contextlib.suppress(FileNotFoundError, ValueError, IndexError, AttributeError):
            return json.loads((work / "files/log.jsonl").read_text().splitlines()[-1])["step"]
        return 0

    def ranks(self):
        """Process ids of the training, on both nodes."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                mine = entry.name.isdigit() and os.readlink(entry / "cwd") == str(self.clone)
                if (
                    mine
                    and b"RANK=" in (entry / "environ").read_bytes()
                    and b"stages" in (entry / "cmdline").read_bytes()
                ):
                    found.append(int(entry.name))
        return found

    def until(self, what, timeout=300.0):
        """Wait for something that comes while the work goes on."""
        end = time.monotonic() + timeout
        while not what():
            assert time.monotonic() < end, (self.clone / "snakemake.log").read_text()[-6000:]
            time.sleep(0.1)


def cancelled(trouble):
    trouble.slurm("scancel", trouble.job())


def killed(trouble):
    os.kill(random.choice(trouble.ranks()), signal.SIGKILL)


def requeued(trouble):
    trouble.slurm("scontrol", "requeue", trouble.job())


def node_lost(trouble):
    """Drained, and gone before its jobs have left."""
    job = trouble.job()
    for state in ("drain", "down"):
        trouble.slurm("scontrol", "update", "nodename=n2", f"state={state}", "reason=trouble")
    try:
        trouble.until(lambda: jobs(trouble.environment)[int(job)][0] != "RUNNING")
    finally:
        trouble.slurm("scontrol", "update", "nodename=n2", "state=resume")


def submitter_killed(trouble):
    trouble.process.kill()
    trouble.process.wait()
    study = f"--configfile=config/{trouble.name}.yaml"
    trouble.slurm("snakemake", "--profile", "slurm", study, "--unlock", "all")
    trouble.start()


def stop(ranks):
    for rank in ranks:
        with contextlib.suppress(ProcessLookupError):
            os.kill(rank, signal.SIGSTOP)


def time_limit(trouble):
    """A training that stands still, as a fast one would end before; Slurm's warning makes it go on."""
    stop(trouble.ranks())
    trouble.slurm("scontrol", "update", f"jobid={trouble.job()}", "timelimit=1")


def hung(trouble):
    """Until its time limit: what the warning makes go on stands still again."""
    job = int(trouble.job())
    time_limit(trouble)

    def left():
        stop(trouble.ranks())
        return jobs(trouble.environment)[job][0] != "RUNNING"

    trouble.until(left)


def scratch_full(trouble):
    ballast = trouble.clone / f"work/{trouble.name}/ballast"
    job = int(trouble.job())
    with pytest.raises(OSError, match="No space"), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(65536))
    trouble.until(lambda: jobs(trouble.environment)[job][0] == "FAILED")
    ballast.unlink()


TROUBLES = [cancelled, killed, node_lost, requeued, submitter_killed, time_limit, scratch_full, hung]


@pytest.fixture(scope="module")
def reference(clone, cluster):
    """What an undisturbed pretraining gives."""
    return {}


@pytest.fixture
def scratch(clone, request):
    """A small file system of its own for the study's work, where it is to fill up."""
    folder = clone / f"work/trouble-{request.node.callspec.params['number']}"
    if TROUBLES[request.node.callspec.params["number"] % len(TROUBLES)] is not scratch_full:
        yield
        return
    folder.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("no right to mount")
    yield
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_trouble(clone, cluster, snakemake, scratch, reference, number):
    befalls = TROUBLES[number % len(TROUBLES)]
    trouble = Round(clone, cluster, snakemake, f"trouble-{number}")
    trouble.until(lambda: trouble.work() and list(trouble.work().glob("step-*.pt")))
    time.sleep(random.random() * 3)
    assert not trouble.pretrained.exists(), "too late: let it train longer"
    reached = trouble.step()
    befalls(trouble)
    finished(clone, trouble.process)

    found = verify(trouble.pretrained)
    verify(trouble.measured)
    cost = found["cost"]
    assert befalls is submitter_killed or reached - INTERVAL <= cost["resumed_at"] < STEPS, (reached, cost)
    steps = [json.loads(line)["step"] for line in (trouble.pretrained.parent / "files/log.jsonl").open()]
    assert steps == list(range(1, STEPS + 1))
    weights = found["artefacts"]
    print(f"{befalls.__name__}: at step {reached}, resumed at {cost['resumed_at']}")
    assert reference.setdefault("weights", weights) == weights, "another encoder than in the round before"
    for manifest in clone.glob("results/*/*/*/manifest.json"):
        verify(manifest)
