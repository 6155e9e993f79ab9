"""Images per second of one MAE ViT-B/16 training step, ours against a plain float32 one.

    python -m benchmarks.mae_step [--steps 5] [--batch 16] [--precision bf16]

The two alternate in one process, so that a machine that slows down slows both; the ratio of each pair counts.
bfloat16 is faster only where the processor computes in it (avx512_bf16, amx_bf16); elsewhere it is emulated.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.plain_mae import PlainMAE
from pipeline.config import load_study
from pipeline.engine.objective import Objective
from pipeline.engine.optim import build_optimizer
from pipeline.engine.runner import Precision
from pipeline.methods import build_method
from pipeline.methods.base import Context


def computes_bf16() -> bool:
    """Whether the device multiplies bfloat16 matrices in hardware."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = Path("/proc/cpuinfo").read_text()
    return "avx512_bf16" in flags or "amx_bf16" in flags


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
    parser.add_argument(
        "--precision", choices=("bf16", "float32"), help="by default what the hardware computes fastest"
    )
    arguments = parser.parse_args()
    precision = arguments.precision or ("bf16" if computes_bf16() else "float32")
    a, b = ours(arguments.batch, precision), plain(arguments.batch)
    seconds(a), seconds(b)
    pairs = [(seconds(a), seconds(b)) for _ in range(arguments.steps)]
    print(f"MAE ViT-B/16, 224 px, batch {arguments.batch}, {torch.get_num_threads()} threads, {arguments.steps} steps")
    if not computes_bf16():
        print("This processor has no bfloat16 arithmetic (avx512_bf16 or amx_bf16).")
    for name, times in zip((f"ours {precision}", "plain float32"), zip(*pairs, strict=True), strict=True):
        print(f"{name:>14}: {arguments.batch / statistics.median(times):6.2f} images/s (median)")
    ratios = sorted(plain / our for our, plain in pairs)
    print(f"         ratio: {statistics.median(ratios):.2f} (from {ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
