"""What a training step of each method costs beside MAE's, against what its arithmetic says.

    python -m benchmarks.method_steps [--steps 3] [--batch 8] [--methods dbot clmae]

Each method stands for itself with the first run of the paper study that trains it with its own options, in float32,
with a teacher as it is initialised. Expected is the ratio of floating-point operations, counted on a real step, teacher
included; measured is the median ratio of step times, where each step of a method is followed by one of MAE's. A ratio
of the two above 1 is time that goes elsewhere than into matrix products and convolutions, or into less efficient ones.
Recurrent networks have no formula in PyTorch's counter: of them there is no ratio.
"""

import argparse
import math
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pipeline.config import Run, load_study
from pipeline.data.kinds import load_kind
from pipeline.engine.objective import Objective
from pipeline.engine.optim import build_optimizer
from pipeline.engine.runner import Precision
from pipeline.methods import build_method, load_method
from pipeline.methods.base import Context, Method
from pipeline.nn.encoders import build_encoder

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


class Steps:
    """One method's training steps on made-up samples."""

    def __init__(self, name: str, batch: int) -> None:
        study = load_study("config/paper.yaml")
        run = next(
            run
            for run in study.runs.values()
            if run.method == name and run.weights is None and not any(key.startswith("options.") for key in run.changes)
        )
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
    trained = [name for name in methods if name not in ("mae", "supervised")]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.method_steps",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--steps", type=int, default=3, help="timed steps of each, after one that is not counted")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--methods", nargs="*", choices=trained, default=trained)
    arguments = parser.parse_args()
    print(f"MAE vit_base beside each, batch {arguments.batch}, {torch.get_num_threads()} threads")
    print(f"{'method':>12} {'run':>14} {'encoder':>10} {'expected':>9} {'measured':>9} {'measured / expected':>20}")
    for name in arguments.methods:  # each in a process of its own, which gives its memory back
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            try:
                print(pool.submit(measured, name, arguments.batch, arguments.steps).result(), flush=True)
            except BrokenProcessPool:
                print(f"{name:>12} was killed, as a rule for want of memory; try a smaller --batch", flush=True)


def measured(name: str, batch: int, steps: int) -> str:
    """One method's row."""
    mae, method = Steps("mae", batch), Steps(name, batch)
    mae.seconds(), method.seconds()
    expected = method.flops() / mae.flops()
    times = statistics.median(method.seconds() / mae.seconds() for _ in range(steps))
    row = f"{name:>12} {method.run:>14} {method.encoder:>10} {expected:9.2f} {times:9.2f}"
    return f"{row} {times / expected if expected > COUNTED else math.nan:20.2f}"


if __name__ == "__main__":
    main()
