"""What a training step of each method costs beside MAE's, against what its arithmetic says.

    python -m benchmarks.method_steps [--steps 3] [--batch 8] [--methods dbot clmae]

Each method stands for itself with the first run of the paper study that trains it with its own options, in float32,
with a teacher as it is initialised. Expected is the ratio of floating-point operations, counted on a real step, teacher
included; measured is the median ratio of step times, where each step of a method is followed by one of MAE's. A ratio
of the two above 1 is time that goes elsewhere than into matrix products and convolutions, or into less efficient ones.
Recurrent networks have no formula in PyTorch's counter: of them there is no ratio. Where the machine has no memory for
the batch, by the planner's estimate, a half or less of it is taken, and by MAE beside it.
"""

import argparse
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pipeline.config import Run, Study, load_study
from pipeline.cost.encoders import Unknown
from pipeline.cost.estimate import GIB
from pipeline.cost.work import work_of
from pipeline.data.kinds import load_kind
from pipeline.engine.objective import Objective
from pipeline.engine.optim import build_optimizer
from pipeline.engine.runner import Precision
from pipeline.methods import build_method, load_method
from pipeline.methods.base import Context, Method
from pipeline.nn.encoders import build_encoder

ROW = "{:>16} {:>21} {:>16} {:>5} {:>8} {:>8} {:>19}"
ROOM = 0.8  # of what is available
COUNTED = 0.005  # of MAE's operations; of a recurrent network a few of its head's are counted


class Fresh:
    """A teacher as it is initialised: MAE ViT-B, or the run's own where its method learns from certain ones only."""

    def __init__(self, run: Run, num_classes: int) -> None:
        self.name = run.teacher if isinstance(run.head.teacher, tuple) else "mae-b"
        self.num_classes = num_classes

    def encoder(self, grid: tuple[int, int]) -> nn.Module:
        return build_encoder("vit_base", (16 * grid[0], 16 * grid[1])).eval().requires_grad_(False)

    def whole(self) -> Method:
        settings = load_study("config/paper.yaml").settings("pretrain", str(self.name))
        context = Context(num_classes=self.num_classes, num_steps=1, batch_size=1)
        return build_method(settings, context).eval().requires_grad_(False)


def run_of(name: str) -> tuple[Study, Run]:
    """The paper study, and the run that stands for a method."""
    study = load_study("config/paper.yaml")
    return study, next(
        run
        for run in study.runs.values()
        if run.method == name and run.weights is None and not any(key.startswith("options.") for key in run.changes)
    )


def gib(name: str, batch: int) -> float:
    """What a step keeps in float32; 0 of a method that the planner has no formula for."""
    study, run = run_of(name)
    try:
        work = work_of(study, "pretrain", run.name)
    except Unknown:
        return 0.0
    return (2 * batch * work.kept + work.states) / GIB  # kept are bytes in bfloat16


def available() -> float:
    """GiB of memory that may be taken."""
    told = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return int(told["MemAvailable"].split()[0]) * 1024 / GIB


class Steps:
    """One method's training steps on made-up samples."""

    def __init__(self, name: str, batch: int) -> None:
        study, run = run_of(name)
        settings = study.settings("pretrain", run.name)
        self.data: dict[str, Any] = load_kind(run.data.kind).example(settings, batch)
        num_classes = self.data["targets"].shape[1] if "targets" in self.data else 1000
        context = Context(num_classes=num_classes, num_steps=1000, batch_size=batch, teacher=Fresh(run, num_classes))
        self.model = Objective(build_method(settings, context), seed=0)
        self.model.train()
        self.run, self.encoder = run.name, settings["model"]
        self.wrapper = Precision(build_optimizer(self.model, 1e-5, settings["train"]), 1, "float32")

    def seconds(self) -> float:
        started = time.perf_counter()
        self.model.train_step(dict(self.data), self.wrapper)
        self.model.after_step()
        return time.perf_counter() - started

    def flops(self) -> int:
        count = FlopCounterMode(display=False)
        with count:
            self.model(**self.data, mode="loss")["loss"].backward()
        self.model.zero_grad(set_to_none=True)
        return count.get_total_flops()


def main() -> None:
    runs = load_study("config/paper.yaml").runs.values()
    methods = dict.fromkeys(run.method for run in runs if load_method(run.head.method or run.method).trains)
    trained = [name for name in methods if name not in ("mae", "supervised", "supervised_video")]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.method_steps",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--steps", type=int, default=3, help="timed steps of each, after one that is not counted")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--methods", nargs="*", choices=trained, default=trained)
    arguments = parser.parse_args()
    print(f"MAE vit_base beside each, {torch.get_num_threads()} threads")
    titles = ("method", "run", "encoder", "batch", "expected", "measured", "measured / expected")
    print(ROW.format(*titles))
    for name in arguments.methods:
        batch, room = arguments.batch, ROOM * available()
        while (needed := gib(name, batch) + gib("mae", batch)) > room and batch > 1:
            batch //= 2
        if needed > room:
            print(f"{name:>16} needs {needed:.0f} GiB for a batch of {batch}, and there are {room:.0f}", flush=True)
            continue
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:  # which gives its memory back
            try:
                print(pool.submit(measured, name, batch, arguments.steps).result(), flush=True)
            except BrokenProcessPool:
                print(f"{name:>16} was killed, as a rule for want of memory; try a smaller --batch", flush=True)


def measured(name: str, batch: int, steps: int) -> str:
    """One method's row."""
    mae, method = Steps("mae", batch), Steps(name, batch)
    mae.seconds(), method.seconds()
    expected = method.flops() / mae.flops()
    times = statistics.median(method.seconds() / mae.seconds() for _ in range(steps))
    ratio = f"{times / expected:.2f}" if expected > COUNTED else "–"
    return ROW.format(name, method.run, method.encoder, batch, f"{expected:.2f}", f"{times:.2f}", ratio)


if __name__ == "__main__":
    main()
