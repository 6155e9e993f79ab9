"""The study on one screen: prepare data, pretrain every run, measure it on every task, write the report.

    snakemake --cores 2 all                                        the demo study, on this machine
    snakemake --profile slurm all                                  the paper study, on a cluster
    snakemake --cores 2 --configfile=config/smoke.yaml all         any other study

Inputs are manifests, small files whose content Snakemake compares; weights and packs lie beside them in `files/`.
Every stage works in `work/`, which no rule declares, so that a job that fails resumes when it is tried again.
Resources stand in profiles/default and slurm/. dvc.yaml says the same graph to DVC.
"""

import json
import os
import re
import signal

from pipeline.config import load_study
from pipeline.freshness import settle

STUDY = load_study(os.path.relpath((workflow.configfiles or ["config/demo.yaml"])[0]))
# `dvc checkout` leaves times in any order; the manifests know the true one.
settle(STUDY)

ROLES = {spec.name: role for role, spec in STUDY.data.items()}
PRETRAINED = f"results/{STUDY.name}/pretrain/{{run}}-{{seed}}/manifest.json"


def source(spec):
    """All that decides the content of a data set."""
    return json.dumps({"source": spec.source, **spec.options}, sort_keys=True)


def data(stage):
    """Manifest of the data set that a stage of a run reads."""
    return lambda wildcards: (
        f"{STUDY.data[STUDY.settings(stage, wildcards.run)['data']].folder}/manifest.json"
    )


def teacher(wildcards):
    """Manifest of the run that a pretraining learns from, if any."""
    name = STUDY.runs[wildcards.run].teacher
    folder = STUDY.folder("pretrain", name, wildcards.seed)
    return f"{folder}/manifest.json" if name else []


def settings(stage):
    """All numbers of a cell: when one of them changes, the cell is run again."""
    return lambda wildcards: json.dumps(
        STUDY.settings(stage, wildcards.run), sort_keys=True
    )


def cluster(stage):
    """What the study asks of a cluster, in the words of Snakemake's Slurm plugin; None leaves a resource out."""

    def resource(value):
        return lambda wildcards: value(STUDY.request(stage, wildcards.run))

    return {
        "nodes": resource(lambda asked: asked.nodes),
        "gres": resource(lambda asked: f"gpu:{asked.gpus}" if asked.gpus else None),
        "cpus_per_task": resource(lambda asked: asked.cpus),
        "mem_mb": resource(lambda asked: asked.memory_gib * 1024),
        "runtime": resource(lambda asked: asked.hours * 60),
        # On several nodes the stage calls srun itself; to the plugin that is an MPI job of one task a node.
        "mpi": resource(lambda asked: "srun" if asked.nodes > 1 else None),
        "tasks": resource(lambda asked: asked.nodes),
        "tasks_per_gpu": 0,
    }


# Slurm's warning before the time limit goes to every process of a job; only the stage knows what to do.
signal.signal(signal.SIGUSR2, signal.SIG_IGN)


# Built by envs/unmask.def; used with `--software-deployment-method apptainer` only.
container: "envs/unmask.sif"


wildcard_constraints:
    name="|".join(spec.name for spec in STUDY.data.values()),
    run="|".join(map(re.escape, STUDY.runs)),
    seed=r"\d+",


localrules:
    all,
    report,


rule all:
    input:
        f"reports/{STUDY.name}/index.html",


rule prepare:
    output:
        manifest="data/{name}/manifest.json",
        files=directory("data/{name}/files"),
    log:
        "logs/data/{name}.log",
    benchmark:
        "logs/data/{name}.benchmark.tsv"
    params:
        study=STUDY.path,
        role=lambda wildcards: ROLES[wildcards.name],
        settings=lambda wildcards: source(STUDY.data[ROLES[wildcards.name]]),
    shell:
        "python -m stages.prepare --study {params.study} --data {params.role} > {log} 2>&1"


rule pretrain:
    input:
        data=data("pretrain"),
        teacher=teacher,
    output:
        manifest=f"results/{STUDY.name}/pretrain/{{run}}-{{seed}}/manifest.json",
        files=directory(f"results/{STUDY.name}/pretrain/{{run}}-{{seed}}/files"),
    log:
        f"logs/{STUDY.name}/pretrain/{{run}}-{{seed}}.log",
    benchmark:
        f"logs/{STUDY.name}/pretrain/{{run}}-{{seed}}.benchmark.tsv"
    resources:
        **cluster("pretrain"),
    params:
        study=STUDY.path,
        settings=settings("pretrain"),
    shell:
        "python -m stages.pretrain --study {params.study} --run {wildcards.run} --seed {wildcards.seed} > {log} 2>&1"


for task in STUDY.tasks:

    rule:
        name:
            task
        input:
            data=data(task),
            encoder=PRETRAINED,
        output:
            manifest=f"results/{STUDY.name}/{task}/{{run}}-{{seed}}/manifest.json",
            files=directory(f"results/{STUDY.name}/{task}/{{run}}-{{seed}}/files"),
        log:
            f"logs/{STUDY.name}/{task}/{{run}}-{{seed}}.log",
        benchmark:
            f"logs/{STUDY.name}/{task}/{{run}}-{{seed}}.benchmark.tsv"
        resources:
            **cluster(task),
        params:
            study=STUDY.path,
            stage=task,
            settings=settings(task),
        shell:
            "python -m stages.{params.stage} --study {params.study} --run {wildcards.run} --seed {wildcards.seed} > {log} 2>&1"


rule report:
    input:
        data=[f"{spec.folder}/manifest.json" for spec in STUDY.data.values()],
        cells=[f"{STUDY.folder(*cell)}/manifest.json" for cell in STUDY.cells()],
    output:
        manifest=f"reports/{STUDY.name}/manifest.json",
        page=report(f"reports/{STUDY.name}/index.html", category="Report"),
        summary=f"reports/{STUDY.name}/summary.txt",
        tables=directory(f"reports/{STUDY.name}/tables"),
        figures=report(
            directory(f"reports/{STUDY.name}/figures"),
            patterns=["{name}.svg"],
            category="Figures",
        ),
    log:
        f"logs/{STUDY.name}/report.log",
    benchmark:
        f"logs/{STUDY.name}/report.benchmark.tsv"
    params:
        study=STUDY.path,
    shell:
        "python -m stages.report --study {params.study} > {log} 2>&1"


onsuccess:
    if STUDY.name == "demo":
        shell("python -m stages.version")
