"""Four processes, whose gradients' sum is rounded by its order: an interrupted training ends with the same bits.

python -m pipeline.engine.loopback --nproc-per-node=4 -m tests.engine.test_buckets FOLDER
"""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.model import BaseModel
from torch import nn

from pipeline.engine.fit import Portions, fit
from pipeline.engine.schedules import warmup_cosine
from tests.engine.conftest import Numbers
from tests.real import environment

STEPS = 8


class Crossed(BaseModel):
    """Layers that are used in another order than told in, so that gradients come in another one than expected."""

    def __init__(self) -> None:
        super().__init__()
        self.last, self.first = nn.Linear(64, 1), nn.Linear(6, 64)
        self.middle = nn.ModuleList(nn.Sequential(nn.Linear(64, 64), nn.GELU()) for _ in range(4))

    def forward(self, x, y, mode="loss", **_):
        x = self.first(x)
        for layer in reversed(self.middle):
            x = layer(x)
        return {"loss": (self.last(x) - y).square().mean()}


class Interrupted(Numbers):
    def __getitems__(self, samples):
        if len(self.seen) == STEPS // 2 + 1:  # FLOPs are counted on one batch more
            raise KeyboardInterrupt
        return super().__getitems__(samples)


def train(work: Path, dataset: Numbers) -> dict[str, torch.Tensor]:
    work.mkdir(exist_ok=True, parents=True)
    torch.manual_seed(0)
    model = Crossed()
    portions = Portions(num_steps=STEPS, batch_size=48, accumulate=1, precision="float32", checkpoint_every=1,
                        log_every=1, num_workers=0)  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-1)
    fit(model, dataset, optimizer, warmup_cosine(STEPS, 2), portions, work=work, seed=0, log_path=work / "log.jsonl")
    return model.state_dict()


def main() -> None:
    folder = Path(sys.argv[1])
    whole = train(folder / "whole", Numbers())
    with pytest.raises(KeyboardInterrupt):
        train(folder / "cut", Interrupted())
    again = Numbers()
    resumed = train(folder / "cut", again)
    assert 1 < len(again.seen) < STEPS, "it began anew"
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_an_interrupted_training_of_four_processes_ends_with_the_same_bits(tmp_path):
    command = [
        sys.executable,
        "-m",
        "pipeline.engine.loopback",
        "--nproc-per-node=4",
        "-m",
        "tests.engine.test_buckets",
    ]
    done = subprocess.run([*command, str(tmp_path)], env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


if __name__ == "__main__":
    main()
