"""Images per second of one MAE ViT-B/16 training step, ours (the recipe's precision) against a plain float32 one.

    python -m benchmarks.mae_step [--steps 5] [--batch 16]

The two alternate in one process, so that a machine that slows down slows both; the ratio of each pair counts.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from benchmarks.plain_mae import PlainMAE
from pipeline.config import load_study
from pipeline.engine.objective import Objective
from pipeline.engine.optim import param_groups
from pipeline.engine.pretrain import build_method
from pipeline.engine.runner import Precision
from pipeline.methods.base import Context


def ours(batch: int) -> Callable[[], float]:
    """A closure that takes one step as `fit` takes it and returns its loss."""
    settings = load_study("config/paper.yaml").settings("pretrain", "mae-b")
    model = Objective(build_method(settings, Context(num_classes=1000, num_steps=1)), seed=0)
    train = settings["train"]
    groups = param_groups(model, 1e-4, train["weight_decay"])
    wrapper = Precision(torch.optim.AdamW(groups, lr=1e-4, betas=tuple(train["betas"])), 1, train["precision"])
    data = {
        "images": torch.randn(batch, 3, 224, 224),
        "labels": torch.zeros(batch, dtype=torch.int64),
        "epoch": torch.zeros(batch, dtype=torch.int64),
        "index": torch.arange(batch),
    }
    return lambda: float(model.train_step(dict(data), wrapper)["loss"])


def plain(batch: int) -> Callable[[], float]:
    """The same of the plain reference."""
    model = PlainMAE()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.05)
    images = torch.randn(batch, 3, 224, 224)

    def step() -> float:
        loss = model(images, torch.rand(batch, 196))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def seconds(step: Callable[[], float]) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mae_step", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=5, help="timed steps of each, after one that is not counted")
    parser.add_argument("--batch", type=int, default=16)
    arguments = parser.parse_args()
    a, b = ours(arguments.batch), plain(arguments.batch)
    seconds(a), seconds(b)
    pairs = [(seconds(a), seconds(b)) for _ in range(arguments.steps)]
    print(f"MAE ViT-B/16, 224 px, batch {arguments.batch}, {torch.get_num_threads()} threads, {arguments.steps} steps")
    for name, times in zip(("ours", "plain float32"), zip(*pairs, strict=True), strict=True):
        print(f"{name:>14}: {arguments.batch / statistics.median(times):6.2f} images/s (median)")
    ratios = sorted(plain / our for our, plain in pairs)
    print(f"         ratio: {statistics.median(ratios):.2f} (from {ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
