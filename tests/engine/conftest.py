"""A tiny model, data set and portions that go through `fit` as the real ones do."""

from pathlib import Path

import pytest
import torch
from mmengine.model import BaseModel
from torch import nn

from pipeline.data import draws
from pipeline.engine.fit import Portions, fit
from pipeline.engine.schedules import warmup_cosine


class Numbers(torch.utils.data.Dataset):
    """Points, by default sixty-four; what a sample holds is a function of (seed, epoch, index)."""

    def __init__(self, seed: int = 0, size: int = 64) -> None:
        self.seed, self.size, self.seen = seed, size, []

    def __len__(self) -> int:
        return self.size

    def __getitems__(self, samples):
        self.seen.append(samples)
        epochs, indices = torch.tensor(samples).unbind(1)
        x = draws.uniform(self.seed, epochs, indices, 6)
        return {"x": x, "y": x.sum(dim=1, keepdim=True), "epoch": epochs, "index": indices}


class Small(BaseModel):
    """Two layers with dropout, so that each step's random state matters."""

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Dropout(dropout), nn.Linear(8, 1))

    def forward(self, x, y, mode="loss", **_):
        return {"loss": (self.layers(x) - y).square().mean()}


@pytest.fixture
def train(tmp_path):
    """train(folder="work", ...) -> (weights, log lines, cost)."""

    def run(folder="work", steps=12, kind=Small, dropout=None, dataset=None, every=4, **changes):
        work: Path = tmp_path / folder
        work.mkdir(exist_ok=True)
        torch.manual_seed(0)
        model = kind(**({} if dropout is None else {"dropout": dropout}))
        portions = Portions(
            **{
                "num_steps": steps,
                "batch_size": 16,
                "accumulate": 1,
                "precision": "float32",
                "checkpoint_every": every,
                "log_every": 1,
                "num_workers": 0,
                **changes,
            }
        )
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        dataset = dataset or Numbers()
        log = work / "log.jsonl"
        cost = fit(model, dataset, optimizer, warmup_cosine(steps, 3), portions, work=work, seed=0, log_path=log)
        return model.state_dict(), log.read_text().splitlines(), cost

    return run
