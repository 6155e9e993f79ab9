"""The studies for one node and one GPU: what their heads say that they cost, and that their methods can be built."""

import re

import pytest
import torch

from pipeline.config import load_study, models
from pipeline.cost.estimate import Forecast
from pipeline.data.kinds import load_kind
from pipeline.engine.objective import Objective
from pipeline.methods import build_method, load_method
from pipeline.methods.base import Context
from pipeline.nn.encoders import build_encoder
from tests.real import ROOT

STUDIES = {"lab": 62, "single-gpu": 12}  # hours of a weekend, of a night
METHODS = {"random", "supervised", "mae", "dbot", "maskdistill", "imae", "clmae", "mixmask"}
SAID = re.compile(r"Planned: ([\d.]+) device-hours, ([\d.]+) hours on (\d+) of ([\w ]+), ([\d.]+) kWh")


@pytest.fixture(autouse=True)
def at_home(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("name", STUDIES)
def test_the_head_says_what_is_planned(name):
    hours, clock, number, device, kwh = SAID.search((ROOT / f"config/{name}.yaml").read_text()).groups()
    forecast = Forecast(load_study(f"config/{name}.yaml"), device)
    assert {run.method for run in forecast.study.runs.values()} == METHODS
    assert not forecast.unknown and all(cell.fits for cell in forecast.cells)
    planned = (forecast.device_hours, forecast.wall_clock(int(number)), forecast.kwh)
    assert planned == pytest.approx([float(hours), float(clock), float(kwh)], rel=0.02)
    assert forecast.wall_clock(int(number)) <= STUDIES[name]


class Teacher:
    """A run of the study as it was initialised."""

    def __init__(self, study, run):
        self.study, self.run = study, run

    def encoder(self, grid):
        model = self.study.settings("pretrain", self.run)["model"]
        side = grid[0] * models()[model]["patch_size"]
        return build_encoder(model, side).eval().requires_grad_(False)

    def whole(self):
        return method_of(self.study, self.run).eval().requires_grad_(False)


def method_of(study, run):
    teacher = study.runs[run].teacher
    context = Context(
        num_classes=1000,
        num_steps=100,
        batch_size=2,
        num_epochs=10,
        teacher=Teacher(study, teacher) if teacher else None,
    )
    return build_method(study.settings("pretrain", run), context)


@pytest.mark.parametrize("name", STUDIES)
def test_every_run_takes_a_step(name):
    study = load_study(f"config/{name}.yaml")
    for run in study.runs:
        settings = study.settings("pretrain", run)
        if not load_method(settings["method"]).trains:
            continue
        batch = load_kind("images").example(settings, 2)
        with torch.no_grad():
            assert torch.isfinite(Objective(method_of(study, run), seed=0).train()(**batch, mode="loss")["loss"]), run
