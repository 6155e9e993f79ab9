"""The study on one screen: prepare data, pretrain every run, measure it on every task, write the report.

    snakemake --cores 2 all                                        the demo study, on this machine
    snakemake --profile slurm all                                  the paper study, on a cluster
    snakemake --cores 2 --configfile=config/smoke.yaml all         any other study

Inputs and outputs are manifests, small files whose content Snakemake compares. Weights and packs lie beside them in
`files/`, and every stage works in `work/`; no rule declares either, for Snakemake deletes what a job that fails or is
run again had declared. So such a job resumes, and a stage that finds its result whole brings the manifest back.
What each node reads, depends on and asks for stands in pipeline/graph.py; dvc.yaml says the same graph to DVC.
"""

import gc
import json
import os
import signal
from pathlib import Path

from pipeline import batches, forkserver
from pipeline.config import load_study
from pipeline.freshness import settle
from pipeline.graph import Graph, command as stage_command
from pipeline.pace import lift_limit

# Thousands of jobs stay to the end: to look for garbage among them is a sixth of the time that the graph takes.
gc.disable()

STUDY = load_study(os.path.relpath((workflow.configfiles or ["config/demo.yaml"])[0]))
GRAPH = Graph(STUDY)
if workflow.is_main_process and GRAPH.lacking:
    files = ", ".join(dict.fromkeys(GRAPH.lacking.values()))
    logger.warning(f"{len(GRAPH.lacking)} cells are not run, for want of {files}")
CELL = f"{STUDY.name}/{{task}}/{{run}}-{{seed}}"
PRETRAINED = f"{STUDY.name}/pretrain/{{run}}-{{seed}}"


def node(wildcards):
    """The node of a job."""
    if "seed" not in wildcards.keys():
        return GRAPH.node("prepare", wildcards.data)
    return GRAPH.node(wildcards.get("task", "pretrain"), wildcards.run, wildcards.seed)


def reads(part):
    """Manifest of one of the parts that a node reads, if it does."""

    def manifest(wildcards):
        settle(GRAPH, workflow)
        lift_limit(workflow)
        folder = node(wildcards).inputs.get(part)
        return f"{folder}/manifest.json" if folder else []

    return manifest


def settings(wildcards):
    """All numbers that decide a node's result: when one of them changes, it is run again."""
    return json.dumps(node(wildcards).identity, sort_keys=True)


def command(wildcards):
    """What runs a node, by hand as well."""
    return node(wildcards).command


ASKED = {  # of a cluster, in the words of Snakemake's Slurm plugin; None leaves a resource out
    "nodes": lambda request: request.nodes,
    "gres": lambda request: f"gpu:{request.gpus}" if request.gpus else None,
    "cpus_per_task": lambda request: request.cpus,
    "mem_mb": lambda request: request.memory_gib * 1024,
    "runtime": lambda request: request.hours * 60,
    # On several nodes the stage calls srun itself; to the plugin that is an MPI job of one task a node.
    "mpi": lambda request: "srun" if request.nodes > 1 else None,
    "tasks": lambda request: request.nodes,
    "tasks_per_gpu": lambda request: 0,
}


def cluster(*stages):
    """What the jobs of a rule ask for: numbers if all ask alike, since Snakemake calls a function time and again."""
    requests = {STUDY.request(stage, run) for stage in stages for run in STUDY.runs}
    if len(requests) == 1:
        return {name: value(*requests) for name, value in ASKED.items()}
    return {name: asked(value) for name, value in ASKED.items()}


def asked(value):
    """The same, looked up for each job."""
    return lambda wildcards: value(node(wildcards).request)


def batch(wildcards):
    """Short cells of which a cluster runs some in one job, one after another."""
    return batches.batch(node(wildcards), workflow)


# Slurm's warning before the time limit goes to every process of a job; only the stage knows what to do.
signal.signal(signal.SIGUSR2, signal.SIG_IGN)


# Built by envs/unmask.def; used with `--software-deployment-method apptainer` only.
container: "envs/unmask.sif"


wildcard_constraints:
    data="|".join(STUDY.data),
    task="|".join(STUDY.tasks) or "none",
    run="|".join(STUDY.runs),
    seed=r"\d+",


localrules:
    all,
    report,


rule all:
    input:
        f"{GRAPH.report}/index.html",


rule prepare:
    output:
        manifest="data/{data}/manifest.json",
    log:
        "logs/data/{data}.log",
    benchmark:
        "logs/data/{data}.benchmark.tsv"
    resources:
        **cluster("prepare"),
    params:
        command=command,
        settings=settings,
    shell:
        '"${{UNMASK_START:-env}}" {params.command} > {log:q} 2>&1'


rule pretrain:
    input:
        data=reads("data"),
        teacher=reads("teacher"),
    output:
        manifest=f"results/{PRETRAINED}/manifest.json",
    log:
        f"logs/{PRETRAINED}.log",
    benchmark:
        f"logs/{PRETRAINED}.benchmark.tsv"
    resources:
        **cluster("pretrain"),
    params:
        command=command,
        settings=settings,
    shell:
        '"${{UNMASK_START:-env}}" {params.command} > {log:q} 2>&1'


rule evaluate:
    input:
        data=reads("data"),
        encoder=reads("encoder"),
    output:
        manifest=f"results/{CELL}/manifest.json",
    log:
        f"logs/{CELL}.log",
    benchmark:
        f"logs/{CELL}.benchmark.tsv"
    group:
        batch
    resources:
        **cluster(*STUDY.tasks),
    params:
        command=command,
        settings=settings,
    shell:
        '"${{UNMASK_START:-env}}" {params.command} > {log:q} 2>&1'


rule report:
    input:
        manifests=lambda wildcards: [str(node.manifest) for node in GRAPH.ready],
    output:
        manifest=f"{GRAPH.report}/manifest.json",
        page=report(f"{GRAPH.report}/index.html", category="Report"),
        pairs=f"{GRAPH.report}/compare.html",
        summary=f"{GRAPH.report}/summary.txt",
        tables=directory(f"{GRAPH.report}/tables"),
        figures=report(
            directory(f"{GRAPH.report}/figures"),
            patterns=["{name}.svg"],
            category="Figures",
        ),
        pictures=directory(f"{GRAPH.report}/pictures"),
    log:
        f"logs/{STUDY.name}/report.log",
    benchmark:
        f"logs/{STUDY.name}/report.benchmark.tsv"
    params:
        command=stage_command("report", STUDY),
    shell:
        "{params.command} > {log:q} 2>&1"


onstart:
    gc.freeze()
    gc.enable()
    forkserver.start(
        workflow, GRAPH.modules, Path(f"logs/{STUDY.name}/forkserver.log")
    )


onsuccess:
    shell("python -m stages.record --study {STUDY.path:q}")
