"""A part of the smoke study as cluster jobs, on a real two-node Slurm cluster inside this machine (envs/slurm/cluster).

pytest tests/workflow/test_slurm.py        needs slurm-wlm and munge; some minutes
"""

import json
import os
import re
import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml

from pipeline.config import load_study
from tests.small import folder as folder_of

SBIN = f"{os.environ['PATH']}:/usr/sbin:/sbin"
MISSING = [tool for tool in ("slurmctld", "slurmd", "sbatch", "munged") if shutil.which(tool, path=SBIN) is None]
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(MISSING), reason=f"no {', '.join(MISSING)}: apt-get install slurm-wlm munge"),
    pytest.mark.timeout(1200),
]
# One cell of each sort: on both nodes, with a teacher, with GPUs and without; others differ by name.
DATA = ("smoke-digits", "smoke-scenes-coco")
RUNS = ("mae", "dbot")
TASKS = {"knn": ["mae", "dbot"], "finetune": ["mae"], "detect": ["mae"]}


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """The working tree as a fresh clone has it: no data, no results."""
    folder = tmp_path_factory.mktemp("clone")
    listed = subprocess.run(["git", "ls-files", "-coz", "--exclude-standard"], capture_output=True, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if Path(name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(name, folder / name)
    return folder


@pytest.fixture(scope="module")
def content(clone):
    """Of the study config/jobs.yaml in the clone."""
    smoke = yaml.safe_load((clone / "config/smoke.yaml").read_text())
    smoke["data"] = {name: smoke["data"][name] for name in DATA}
    smoke["runs"] = {name: smoke["runs"][name] for name in RUNS}
    smoke["tasks"] = {name: {**smoke["tasks"][name], "runs": runs} for name, runs in TASKS.items()}
    (clone / "config/jobs.yaml").write_text(yaml.safe_dump(smoke))
    return smoke


@pytest.fixture(scope="module")
def study(clone, content):
    return load_study(clone / "config/jobs.yaml")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Environment of a shell on a running cluster."""
    folder = tmp_path_factory.mktemp("slurm")
    script = Path("envs/slurm/cluster").resolve()
    subprocess.run([script, "start", folder], check=True, timeout=120)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    yield {
        **inherited,
        "PATH": f"{folder}/bin:{os.environ['PATH']}",
        "UNMASK_FAKE_GPUS": "1",
        "OMP_NUM_THREADS": "1",
    }
    subprocess.run([script, "stop", folder], check=True, timeout=120)


@pytest.fixture
def snakemake(clone, cluster):
    """Start Snakemake on a study; a test that fails leaves none behind."""
    processes = []

    def start(study, target):
        command = ["snakemake", "--profile", "slurm", f"--configfile={study}", target]
        command.insert(1, "--slurm-init-seconds-before-status-checks=3")  # these jobs take seconds
        with (clone / "snakemake.log").open("w") as output:
            processes.append(subprocess.Popen(command, cwd=clone, env=cluster, stdout=output, stderr=output))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()


def finished(clone, process):
    code = process.wait(timeout=1100)
    said = (clone / "snakemake.log").read_text()
    assert code == 0, said[-6000:]
    return said


def jobs(cluster):
    """Every job the cluster has seen: id, state, nodes, generic resources, comment."""
    listing = subprocess.run(
        ["squeue", "--noheader", "--states=all", "--format=%i|%T|%D|%b|%k"],
        env=cluster, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {int(line.split("|")[0]): line.split("|")[1:] for line in listing.stdout.splitlines()}


def two_node_run(study):
    return next(name for name in study.runs if study.request("pretrain", name).nodes == 2)


def test_the_study_runs_as_jobs(clone, cluster, snakemake, study):
    said = finished(clone, snakemake("config/jobs.yaml", "all"))
    assert (clone / f"reports/{study.name}/index.html").exists()

    seen = jobs(cluster)
    assert {state for state, *_ in seen.values()} == {"COMPLETED"}
    stages = Counter("pretrain" if stage == "pretrain" else "evaluate" for stage, _, _ in study.cells())
    expected = stages + Counter(prepare=len(study.data))
    submitted = Counter(re.match(r"rule_(\w+?)_wildcards", comment)[1] for *_, comment in seen.values())
    assert submitted == expected

    # GPUs were asked of Slurm as the study says, and one pretraining spanned both nodes.
    for stage, run, seed in study.cells():
        asked = study.request(stage, run)
        rule = "pretrain_wildcards" if stage == "pretrain" else f"evaluate_wildcards_{stage}"
        comment = f"rule_{rule}_{run}_{seed}"
        _, nodes, resources, _ = next(job for job in seen.values() if job[3] == comment)
        assert int(nodes) == asked.nodes, comment
        assert (f"gpu:{asked.gpus}" in resources) == (asked.gpus > 0), comment
    run = two_node_run(study)
    cell = folder_of(study, "pretrain", run, study.seeds[0])
    assert "launch: srun --nodes=2" in (clone / f"logs/{study.name}/pretrain/{cell.name}.log").read_text()
    asked = study.request("pretrain", run)
    cost = json.loads((clone / cell / "manifest.json").read_text())["cost"]
    assert cost["num_devices"] == asked.nodes * asked.gpus > 2

    # Logs of jobs are kept, successful or not.
    logs = {int(log.stem) for log in (clone / "logs/slurm").rglob("*.log")}
    assert logs == set(seen)
    assert said.count("has been submitted with SLURM jobid") == len(seen)


def test_a_cancelled_job_resumes(clone, cluster, snakemake, study, content):
    run, seed = two_node_run(study), study.seeds[0]
    long = {"train.duration": "200 steps", "train.warmup": "10 steps", "train.checkpoint_every": 20}
    content["runs"][run]["set"] = {**content["runs"][run].get("set", {}), **long}
    (clone / "config/cancelled.yaml").write_text(yaml.safe_dump(content))
    cell = f"{run}-{seed}"
    before = set(jobs(cluster))

    manifest = f"results/cancelled/pretrain/{cell}/manifest.json"
    process = snakemake("config/cancelled.yaml", manifest)
    while not list(clone.glob(f"work/cancelled/pretrain/{cell}-*/step-*.pt")):
        assert process.poll() is None, (clone / "snakemake.log").read_text()[-6000:]
        time.sleep(0.2)
    (first,) = (job for job, (state, *_) in jobs(cluster).items() if state == "RUNNING")
    subprocess.run(["scancel", str(first)], env=cluster, check=True)
    finished(clone, process)

    after = {job: about for job, about in jobs(cluster).items() if job not in before and "pretrain" in about[3]}
    assert [after[job][0] for job in sorted(after)] == ["CANCELLED", "COMPLETED"]
    cost = json.loads((clone / manifest).read_text())["cost"]
    assert 0 < cost["resumed_at"] < 200
    steps = [json.loads(line)["step"] for line in (clone / manifest).with_name("files").joinpath("log.jsonl").open()]
    assert steps == sorted(set(steps)) and steps[-1] == 200
