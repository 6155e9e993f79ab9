"""Processor time of what deals with a whole study, and how it grows with the number of its cells.

    python -m benchmarks.growth [--cells 500 5000] [--rounds 3] [--only plan start]

A study of several methods and tasks at five seeds, and made-up results of it, in a folder that is removed afterwards.
No part of `make bench`, since it takes half an hour.
Seconds are of the processor, user and system, of a command and all that it starts; of several rounds the least. The
exponent e is that of seconds ~ cells^e from the smallest to the largest study.

    plan     `snakemake -n all` before anything is made
    planned  the same once every result is there
    start    of a job in Slurm up to its stage: Snakemake, and within `srun` once more; Slurm itself is left out
    report   `python -m stages.report`
    record   `python -m stages.record`, of all at once
    status   `dvc status` of what was recorded
"""

import argparse
import io
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from pipeline import manifest
from pipeline.config import Study, load_study
from pipeline.graph import Graph, Node

SEEDS, TASKS = [0, 1, 2, 3, 4], ("knn", "linear_probe", "finetune", "detect", "segment")
SETS = ("digits", "digit-scenes-coco", "digit-scenes-ade20k")
STUDY, TARGET = "config/growth.yaml", "pretrain:run=mae-0,seed=0"
SRUN = '#!/bin/sh\nwhile [ "${1#-}" != "$1" ]; do shift; done\nexec "$@"\n'  # without Slurm, the command alone
STAGE = "#!/bin/sh\nexec cp made.json results/growth/pretrain/mae-0-0/manifest.json\n"
COMMANDS = {
    "plan": ["snakemake", f"--configfile={STUDY}", "-n", "all"],
    "planned": ["snakemake", f"--configfile={STUDY}", "-n", "all"],
    "start": [
        *("python", "-m", "snakemake", "--snakefile", "Snakefile", "--target-jobs", TARGET),
        *("--allowed-rules", "pretrain", "--cores", "all", "--attempt", "1", "--force-use-threads", "--force"),
        *("--target-files-omit-workdir-adjustment", "--max-inventory-time", "0", "--retries", "0", "--nocolor"),
        *("--no-hooks", "--nolock", "--ignore-incomplete", "--rerun-triggers", "mtime", "params", "input"),
        *("--latency-wait", "60", "--scheduler", "greedy", "--configfiles", STUDY, "--executor", "slurm-jobstep"),
        *("--jobs", "1", "--mode", "remote"),
    ],
    "report": ["python", "-m", "stages.report", "--study", STUDY],
    "record": ["python", "-m", "stages.record", "--study", STUDY],
    "status": ["dvc", "status", "dvc/growth/dvc.yaml"],
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.growth", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", type=int, nargs="+", default=[500, 5000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=list(COMMANDS), default=list(COMMANDS))
    arguments = parser.parse_args()
    print(f"{'cells':>6} " + " ".join(f"{name:>8}" for name in arguments.only) + "  processor seconds")
    found: dict[int, dict[str, float]] = {}
    root = Path.cwd()
    for cells in sorted(arguments.cells):
        with tempfile.TemporaryDirectory() as place:
            os.chdir(place)
            count = prepare(root, cells)
            found[count] = dict(measure(arguments.only, arguments.rounds))
            os.chdir(root)
        print(f"{count:6} " + " ".join(f"{found[count][name]:8.2f}" for name in arguments.only), flush=True)
    (few, least), *_, (many, most) = found.items() if len(found) > 1 else [*found.items()] * 2
    if few < many:
        exponents = [math.log(most[name] / least[name]) / math.log(many / few) for name in arguments.only]
        print("     e " + " ".join(f"{exponent:8.2f}" for exponent in exponents))


def prepare(root: Path, cells: int) -> int:
    """Write a copy of the project with a study of about so many cells to this folder; returns their number."""
    listed = subprocess.run(["git", "-C", root, "ls-files", "-z"], capture_output=True, check=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, name)
    subprocess.run(["git", "init", "--quiet"], check=True)
    for name, text in (("bin/srun", SRUN), ("bin/stage", STAGE)):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(text)
        Path(name).chmod(0o755)
    demo = yaml.safe_load(Path("config/demo.yaml").read_text())
    study = {
        "scale": "demo",
        "seeds": SEEDS,
        "data": {name: demo["data"][name] for name in SETS},
        "runs": runs(max(2, round(cells / len(SEEDS) / (1 + len(TASKS))))),
        "tasks": {task: {"seeds": SEEDS} for task in TASKS},
    }
    Path(STUDY).write_text(yaml.safe_dump(study, sort_keys=False))
    return sum(1 for _ in load_study(STUDY).cells())


def runs(count: int) -> dict[str, Any]:
    """Ablations of a few methods, most of them of MAE."""
    found: dict[str, Any] = {"random": {"method": "random"}}
    for i in range(count - 1):
        match i % 4:
            case 1:
                run = {"method": "imae", "teacher": "mae-0", "set": {"train.base_lr": 1e-4 * (i + 1)}}
            case 2:
                run = {"method": "maskdistill", "teacher": f"mae-{i - 2}"}
            case _:
                run = {"method": "mae", "set": {"options.mask_ratio": round(0.3 + 0.6 * i / count, 4)}}
        found[f"{run['method']}-{i}"] = run
    return found


def measure(names: list[str], rounds: int) -> Iterator[tuple[str, float]]:
    made = False
    for name in COMMANDS:
        if name != "plan" and not made:
            make(load_study(STUDY))
            made = True
        if name in names:
            yield name, min(seconds(COMMANDS[name]) for _ in range(1 if name == "record" else rounds))


def seconds(command: list[str]) -> float:
    """Of the processor, on one thread."""
    paths = [str(Path("bin").resolve()), str(Path(sys.executable).parent), os.environ["PATH"]]
    told = {"SLURM_JOB_ID": "1", "UNMASK_START": "bin/stage", "OMP_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | told | {"PATH": ":".join(paths)})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"error: {' '.join(command)}\n{done.stdout}{done.stderr}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def make(study: Study) -> None:
    """Publish made-up results of all cells."""
    random = np.random.default_rng(0)
    pictures = {"pretrain": _png(random.integers(0, 255, (18, 60, 3), np.uint8), (720, 216), Image.Resampling.NEAREST)}
    scene = _png(random.integers(0, 255, (140, 200, 3), np.uint8), (800, 560), Image.Resampling.BICUBIC)
    pictures |= {"detect": scene, "segment": scene}
    steps = np.arange(1, 401)
    log = "".join(f'{{"step": {10 * i}, "loss": {math.exp(-i / 130):.6f}, "lr": 0.001}}\n' for i in steps)
    for node in Graph(study):
        files = Path("work/growth/files")
        files.mkdir(parents=True, exist_ok=True)
        if node.stage == "prepare":
            (files / "train.pack").write_text(node.run)
            about = {"name": node.run, "source": study.data[node.run].source, "classes": [str(i) for i in range(10)]}
            about |= {"splits": {"train": {"count": 6000}, "val": {"count": 500}}, "rejects": {"count": 0, "first": []}}
            manifest.publish(node.folder, files, {"stage": "prepare", "data": about, "inputs": {}})
            continue
        (files / "log.jsonl").write_text(log)
        shown = [{"path": "files/seen.png", "caption": "What is seen"}] if node.stage in pictures else []
        if shown:
            (files / "seen.png").write_bytes(pictures[node.stage])
        manifest.publish(node.folder, files, {**_told(study, node, random), "pictures": shown})
    shutil.copy("results/growth/pretrain/mae-0-0/manifest.json", "made.json")


def _told(study: Study, node: Node, random: np.random.Generator) -> dict[str, Any]:
    """What a manifest says of a cell."""
    metrics = study.tasks[node.stage].head.headline if node.stage in study.tasks else ()
    places = {part: folder / "manifest.json" for part, folder in node.inputs.items()}
    started = "2026-01-02T03:04:05+00:00"
    return {
        "stage": node.stage,
        "study": study.name,
        "run": node.run,
        "method": study.runs[node.run].method,
        "seed": node.seed,
        "command": node.command,
        "settings": node.settings,
        "inputs": {p: {"manifest": str(at), "digest": manifest.read(at)["digest"]} for p, at in places.items()},
        "records": [
            {"metric": metric, "value": float(40 + 20 * random.random()), "unit": "%", "higher_is_better": True,
             "count": 2000, "interval": [40.0, 60.0]}
            for metric in metrics
        ],
        "cost": {"seconds": float(20 + 50 * random.random()), "device": "cpu", "num_devices": 1, "samples": 12000,
                 "unit": "images", "samples_per_second": 1960.0, "flops_per_sample": 1.2e7, "peak_memory_gib": 0.8},
        "provenance": {"commit": "c0ffee" * 6, "dirty": False, "host": "here", "started": started, "finished": started,
                       "packages": {"torch": "2.11.0"}},
    }  # fmt: skip


def _png(pixels: np.ndarray, size: tuple[int, int], resample: Image.Resampling) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).resize(size, resample).save(stream, "PNG")
    return stream.getvalue()


if __name__ == "__main__":
    main()
