"""Images per second of one MAE ViT-B/16 training step, ours against a plain float32 one.

    python -m benchmarks.mae_step [--steps 5] [--batch 16] [--precision bf16]

The two alternate in one process, so that a machine that slows down slows both; the ratio of each pair counts.
bfloat16 is faster only where the processor multiplies matrices faster in it, which is tried first: with AMX or tensor
cores, and not with avx512_bf16 alone. Where both steps compute in float32, the time of their matrix products is the
same, and the last line says how much of a step is left beside it.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from benchmarks.plain_mae import PlainMAE
from pipeline.config import load_study
from pipeline.engine.objective import Objective
from pipeline.engine.optim import build_optimizer
from pipeline.engine.runner import Precision
from pipeline.methods import build_method
from pipeline.methods.base import Context

FLOPS = 58.46e9  # of an image and step, forward and backward, as tests/cost/test_formulas.py holds it
PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16}


def products(precision: str, rounds: int = 5) -> float:
    """Floating-point operations a second of one matrix product, that of a layer of the encoder, the best of several."""
    rows, width, hidden = 3152, 768, 3072
    left = torch.randn(rows, width, dtype=PRECISIONS[precision])
    right = torch.randn(hidden, width, dtype=PRECISIONS[precision])
    times = [seconds(lambda: float(torch.nn.functional.linear(left, right)[0, 0])) for _ in range(1 + rounds)]
    return 2 * rows * width * hidden / min(times)


def ours(batch: int, precision: str) -> Callable[[], float]:
    """A closure that takes one step as `fit` takes it and returns its loss."""
    settings = load_study("config/paper.yaml").settings("pretrain", "mae-b")
    model = Objective(build_method(settings, Context(num_classes=1000, num_steps=1, batch_size=batch)), seed=0)
    wrapper = Precision(build_optimizer(model, 1e-4, settings["train"]), 1, precision)
    data = {
        "images": torch.randn(batch, 3, 224, 224),
        "labels": torch.zeros(batch, dtype=torch.int64),
        "epoch": torch.zeros(batch, dtype=torch.int64),
        "index": torch.arange(batch),
    }
    return lambda: float(model.train_step(dict(data), wrapper)["loss"].detach())


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
    parser.add_argument("--precision", choices=("bf16", "float32"), help="by default in which it multiplies faster")
    arguments = parser.parse_args()
    speeds = {name: products(name) for name in PRECISIONS}
    precision = arguments.precision or max(speeds, key=lambda name: speeds[name])
    a, b = ours(arguments.batch, precision), plain(arguments.batch)
    seconds(a), seconds(b)
    pairs = [(seconds(a), seconds(b)) for _ in range(arguments.steps)]
    print(f"MAE ViT-B/16, 224 px, batch {arguments.batch}, {torch.get_num_threads()} threads, {arguments.steps} steps")
    told = ", ".join(f"{speed / 1e9:.0f} GFLOP/s in {name}" for name, speed in speeds.items())
    print(f"Matrix products alone: {told}")
    for name, times in zip((f"ours {precision}", "plain float32"), zip(*pairs, strict=True), strict=True):
        print(f"{name:>14}: {arguments.batch / statistics.median(times):6.2f} images/s (median)")
    ratios = sorted(plain / our for our, plain in pairs)
    print(f"         ratio: {statistics.median(ratios):.2f} (from {ratios[0]:.2f} to {ratios[-1]:.2f})")
    best = speeds[precision] * min(plain for _, plain in pairs) / (FLOPS * arguments.batch)
    print(f"  at best here: {best:.2f} (the fastest plain step over its matrix products alone in {precision})")


if __name__ == "__main__":
    main()
