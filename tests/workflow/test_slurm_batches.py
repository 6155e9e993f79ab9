"""Short cells share Slurm jobs: how many jobs, one cell at a time, those that fail, and what runs again.

pytest tests/workflow/test_slurm_batches.py        needs slurm-wlm and munge; two minutes
"""

import subprocess
from collections import defaultdict

import pytest
import yaml

from tests.workflow.slurm import MARKS, finished, jobs

pytestmark = MARKS
SIZE, ENCODERS = 3, 2
STUDY = "config/batches.yaml"
# What the jobs' commands begin with: in the place of the stages it makes their manifests, and tells when.
# As long as there is a folder `broken`, the first cell of each job fails.
START = """#!/bin/sh
echo "begin $SLURM_JOB_ID $*" >> started
trap 'echo "end $SLURM_JOB_ID $*" >> started' EXIT
sleep 1
case $3 in
stages.prepare) folder=data/$7 ;;
stages.pretrain) folder=results/batches/pretrain/$7-$9 ;;
stages.evaluate)
    folder=results/batches/$7/$9-${11}
    ! mkdir "broken/$SLURM_JOB_ID" 2>/dev/null || exit 1
    ;;
esac
mkdir -p "$folder"
echo '{}' > "$folder/manifest.json"
"""


def write_study(clone, num_tasks):
    """Some encoders, and for each of them as many cells of k-NN as there are tasks; returns their manifests."""
    smoke = yaml.safe_load((clone / "config/smoke.yaml").read_text())
    seeds = list(range(ENCODERS))
    study = {
        "scale": smoke["scale"],
        "seeds": seeds,
        "data": {"smoke-digits": smoke["data"]["smoke-digits"]},
        "runs": {"random": {"method": "random"}},
        "tasks": {
            f"knn-{number}": {**smoke["tasks"]["knn"], "task": "knn", "seeds": seeds} for number in range(num_tasks)
        },
    }
    (clone / STUDY).write_text(yaml.safe_dump(study))
    return [f"results/batches/{task}/random-{seed}/manifest.json" for task in study["tasks"] for seed in seeds]


def evaluated(clone):
    """Commands of the cells that were started since the last look, by Slurm job; no two of a job at once."""
    found, running = defaultdict(list), {}
    for line in (clone / "started").read_text().splitlines():
        event, job, command = line.split(" ", 2)
        if event == "begin":
            assert job not in running, f"{command} beside {running[job]}"
            running[job] = command
            found[int(job)] += [command] if "stages.evaluate" in command else []
        else:
            assert running.pop(job) == command
    assert not running
    (clone / "started").unlink()
    return {job: commands for job, commands in found.items() if commands}


def hours(cluster):
    """That each job may take."""
    listing = ["squeue", "--noheader", "--states=all", "--format=%i %l"]
    limits = subprocess.run(listing, env=cluster, capture_output=True, text=True, check=True).stdout.splitlines()
    return {int(job): limit for job, limit in map(str.split, limits)}


@pytest.fixture
def run(clone, snakemake):
    (clone / "start").write_text(START)
    (clone / "start").chmod(0o755)
    options = (f"--group-components=short={SIZE}", "--retries=0")
    return lambda cells: snakemake(STUDY, *cells, *options, UNMASK_START=str(clone / "start"))


def test_short_cells_share_jobs(clone, cluster, run):
    (clone / "broken").mkdir()
    cells = write_study(clone, num_tasks=5)
    assert run(cells).wait(timeout=600) == 1
    found = evaluated(clone)
    said = (clone / "snakemake.log").read_text()

    # Five cells of each encoder, three in a job and two in another; none waits for the other encoder.
    assert sorted(map(len, found.values())) == [2, 2, 3, 3], said[-6000:]
    assert all(len({command.split("--seed")[1] for command in commands}) == 1 for commands in found.values())
    assert len(jobs(cluster)) == 1 + ENCODERS + len(found)
    granted = hours(cluster)
    assert {job: granted[job] for job in found} == {job: f"{len(commands)}:00:00" for job, commands in found.items()}

    # Of each job one failed, and the others are measured all the same.
    lacking = {cell for cell in cells if not (clone / cell).exists()}
    assert len(lacking) == len(found)

    # These run again and nothing else does, with a new task; cells of both encoders, now there, share jobs.
    (clone / "broken").rename(clone / "mended")
    cells = write_study(clone, num_tasks=6)
    finished(clone, run(cells))
    again = evaluated(clone)
    assert sorted(map(len, again.values())) == [3, 3]
    words = [command.split() for commands in again.values() for command in commands]
    made = [f"results/batches/{task}/{run}-{seed}/manifest.json" for *_, task, _, run, _, seed in words]
    assert sorted(made) == sorted([*lacking, *cells[-ENCODERS:]])
