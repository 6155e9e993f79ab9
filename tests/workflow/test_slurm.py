"""A part of the smoke study as cluster jobs, on a real two-node Slurm cluster inside this machine (envs/slurm/cluster).

pytest tests/workflow/test_slurm.py        needs slurm-wlm and munge; some minutes
"""

import json
import re
import subprocess
import time
from collections import Counter

import pytest
import yaml

from pipeline.config import load_study
from tests.small import folder as folder_of
from tests.workflow.slurm import MARKS, finished, jobs

pytestmark = MARKS
# One cell of each sort: on both nodes, with a teacher, with GPUs and without; others differ by name.
DATA = ("smoke-digits", "smoke-scenes-coco")
RUNS = ("mae", "dbot")
TASKS = {"knn": ["mae", "dbot"], "finetune": ["mae"], "detect": ["mae"]}


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


def two_node_run(study):
    return next(name for name in study.runs if study.request("pretrain", name).nodes == 2)


def test_the_study_runs_as_jobs(clone, cluster, snakemake, study):
    said = finished(clone, snakemake("config/jobs.yaml", "all"))
    assert (clone / f"reports/{study.name}/index.html").exists()

    seen = jobs(cluster)
    assert {state for state, *_ in seen.values()} == {"COMPLETED"}
    stages = Counter("pretrain" if stage == "pretrain" else "evaluate" for stage, _, _ in study.cells())
    expected = stages + Counter(prepare=len(study.data))
    # Every cell here is short, and the only one of its encoder and data set: a job each.
    submitted = Counter(
        re.match(r"rule_(?:short.*_(?=evaluate$))?([a-z]+)", comment)[1] for *_, comment in seen.values()
    )
    assert submitted == expected

    # GPUs were asked of Slurm as the study says, and one pretraining spanned both nodes.
    for stage, run, seed in study.cells():
        asked = study.request(stage, run)
        if stage == "pretrain":
            comment = f"rule_pretrain_wildcards_{run}_{seed}"
        else:
            data = study.tasks[stage].data.folder.name
            comment = f"rule_short-{asked.gpus}gpu-1cpu-3gib-1h-{data}-{run}-{seed}_evaluate"
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
