import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from mmengine.model import BaseModel

from pipeline.config import ConfigError
from pipeline.engine.optim import LARS, build_optimizer
from pipeline.engine.schedules import build_schedule, warmup_cosine, warmup_multistep, warmup_poly
from pipeline.engine.train import fitted, peak_lr, train
from tests.engine.conftest import Numbers, Small

SETTINGS = {
    "duration": "2 epochs",
    "warmup": "1 step",
    "batch_size": 16,
    "accumulate": 1,
    "optimizer": "adamw",
    "lr": 0.01,
    "schedule": "cosine",
    "min_lr": 0.001,
    "betas": [0.9, 0.95],
    "weight_decay": 0.05,
    "clip_norm": None,
    "precision": "float32",
    "num_workers": 0,
    "checkpoint_every": 100,
    "log_every": 1,
}


def trained(folder, dataset=None, model=None, **changes):
    """Weights, log lines and cost of a training."""
    (folder / "work").mkdir(parents=True)
    torch.manual_seed(0)
    model = model or Small(dropout=0.0)
    dataset = dataset or Numbers()
    cost = train(model, dataset, SETTINGS | changes, work=folder / "work", files=folder, seed=0)
    return model.state_dict(), [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()], cost


def test_settings_are_all_it_takes(tmp_path):
    _, lines, cost = trained(tmp_path)
    assert [line["step"] for line in lines] == list(range(1, 9))  # two epochs of four steps
    assert lines[0]["lr"] == 0 and lines[1]["lr"] == 0.01  # a warm-up of one step, then the peak
    assert 0.001 < lines[-1]["lr"] < 0.002
    assert cost["samples"] == 8 * 16


class Stacked(BaseModel):
    """Four blocks, as a transformer has them."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.blocks = torch.nn.Sequential(*(torch.nn.Linear(6, 6) for _ in range(4)))

    def forward(self, x, y, mode="loss", **_):
        return {"loss": (self.blocks(x).sum(dim=1, keepdim=True) - y).square().mean()}


def test_blocks_are_compiled_if_wanted(tmp_path, monkeypatch, capsys):
    """Steps run what the compiler makes of a block; here it makes the block itself, and the result is the same."""
    ran = []

    def compiled(forward, **_):
        return lambda *given: ran.append(forward) or forward(*given)

    monkeypatch.setattr(torch, "compile", compiled)
    plain, *_ = trained(tmp_path / "a", model=Stacked())
    assert not ran
    weights, *_ = trained(tmp_path / "b", model=Stacked(), compile=True)
    assert len(ran) == 8 * 4 and "4 blocks of transformers are compiled" in capsys.readouterr().out
    assert all(torch.equal(value, weights[name]) for name, value in plain.items())


@pytest.mark.parametrize(
    ("task", "kind", "peak", "factors"),
    [
        ("finetune", torch.optim.AdamW, 4e-3 * 64 / 256, warmup_cosine(250, 20, final=1e-5 / (4e-3 * 64 / 256))),
        ("linear_probe", LARS, [1.6, 6.4, 25.6, 102.4], warmup_cosine(80, 10)),
        ("detect", torch.optim.AdamW, 3e-3, warmup_multistep([round(0.75 * 125), round(0.93 * 125)], 15)),
        ("segment", torch.optim.AdamW, 1e-2, warmup_poly(130, 15, power=1.0)),
    ],
)
def test_protocols_name_optimiser_rate_and_schedule(task, kind, peak, factors):
    """Written out as they stood in each task before there was one glue."""
    settings = fitted(yaml.safe_load(Path(f"config/tasks/{task}.yaml").read_text())["demo"]["train"], 8000)
    rate = peak_lr(settings)
    assert rate == peak
    model = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(4))
    parts = list(model) if isinstance(rate, list) else None
    optimizer = build_optimizer(model, rate, settings, parts=parts, num_layers=0)
    assert type(optimizer) is kind and max(group["lr"] for group in optimizer.param_groups) == np.max(peak)
    schedule = build_schedule(settings, settings["num_steps"], settings["warmup_steps"], np.max(peak))
    steps = range(settings["num_steps"])
    assert [schedule(step) for step in steps] == [factors(step) for step in steps]


def test_the_rate_goes_with_the_batch_or_stands_alone():
    assert peak_lr({"base_lr": 0.1, "batch_size": 512}) == 0.2
    assert peak_lr({"base_lr": [0.1, 0.2], "batch_size": 128}) == [0.05, 0.1]
    assert peak_lr({"lr": 0.1, "batch_size": 512}) == 0.1
    with pytest.raises(ConfigError, match=r"train has the rates \[\]; expected one of base_lr"):
        peak_lr({"batch_size": 512})
    with pytest.raises(ConfigError, match=r"train has the rates \['base_lr', 'lr'\]; expected one of"):
        peak_lr({"base_lr": 0.1, "lr": 0.1, "batch_size": 512})


def test_a_set_smaller_than_the_batch_is_taken_whole(tmp_path, capsys):
    dataset = Numbers(size=10)
    weights, lines, cost = trained(tmp_path / "small", dataset, batch_size=64)
    assert capsys.readouterr().out.count("the batch of 64 is cut to 10: the data set has 10 samples") == 1
    assert len(lines) == 2 and cost["samples"] == 20  # an epoch is one step
    assert sorted(index for _, index in dataset.seen[-1]) == list(range(10))
    whole, *_ = trained(tmp_path / "whole", Numbers(size=10), batch_size=10)
    assert all(torch.equal(weights[name], whole[name]) for name in weights)


@pytest.mark.parametrize(("accumulate", "cut"), [(1, 1), (4, 2), (5, 5), (16, 10)])
def test_a_cut_batch_is_the_same_over_any_number_of_micro_batches(accumulate, cut):
    small = fitted(SETTINGS | {"batch_size": 64, "accumulate": accumulate, "duration": "3 epochs"}, 10)
    assert (small["batch_size"], small["num_steps"], small["warmup_steps"]) == (10, 3, 1)
    assert small["accumulate"] == cut


def test_a_cut_batch_can_still_be_shared_out(monkeypatch):
    monkeypatch.setattr("mmengine.dist.get_world_size", lambda: 3)
    small = fitted(SETTINGS | {"batch_size": 64, "accumulate": 2}, 10)
    assert (small["batch_size"], small["accumulate"]) == (9, 1)
    with pytest.raises(ConfigError, match="has 2 samples, and each of 3 processes takes one at least"):
        fitted(SETTINGS, 2)


def test_the_optimiser_is_published_where_others_inherit_it(tmp_path):
    trained(tmp_path / "first", publish_optimizer=True)
    fresh, *_ = trained(tmp_path / "second")
    state = torch.load(tmp_path / "first/optimizer.pt", weights_only=True)["state"]
    assert state[0]["step"] == 8
    (tmp_path / "third/work").mkdir(parents=True)
    torch.manual_seed(0)
    model = Small(dropout=0.0)
    heir = SETTINGS | {"inherit_optimizer": True}
    train(model, Numbers(), heir, work=tmp_path / "third/work", files=tmp_path / "third", seed=0,
          teacher=tmp_path / "first/encoder.safetensors")  # fmt: skip
    assert not torch.equal(model.state_dict()["layers.0.weight"], fresh["layers.0.weight"])
