import math

import pytest

from pipeline.config import ConfigError
from pipeline.engine.schedules import build_schedule, warmup_cosine, warmup_multistep, warmup_poly


def test_cosine_rises_to_its_peak_and_falls_to_nothing():
    factor = warmup_cosine(100, 20)
    assert factor(0) == 0 and factor(10) == 0.5 and factor(20) == 1
    assert factor(60) == pytest.approx(0.5)
    assert factor(99) == pytest.approx(0.5 * (1 + math.cos(math.pi * 79 / 80)))
    assert factor(100) == pytest.approx(0)


def test_cosine_ends_at_a_floor():
    assert warmup_cosine(100, 0, final=0.1)(100) == pytest.approx(0.1)
    assert warmup_cosine(100, 0)(0) == 1


def test_poly_is_linear_for_power_one():
    factor = warmup_poly(110, 10, power=1.0)
    assert factor(0) == 1e-6 and factor(60) == pytest.approx(0.5) and factor(110) == pytest.approx(0)


def test_multistep_falls_tenfold_at_each_milestone():
    factor = warmup_multistep([50, 80], 10)
    assert factor(0) == 1e-3 and factor(49) == 1
    assert factor(50) == pytest.approx(0.1) and factor(80) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        ({"min_lr": 0.2}, warmup_cosine(100, 10, final=0.1)),
        ({"schedule": "cosine", "min_lr": 0.0, "warmup_start": 0.5}, warmup_cosine(100, 10, start=0.5)),
        ({"schedule": "poly", "power": 2.0, "warmup_start": 1e-6, "min_lr": 0.2}, warmup_poly(100, 10, 2.0, final=0.1)),
        ({"schedule": "multistep", "milestones": [0.5, 0.8], "gamma": 0.1, "warmup_start": 1e-3},
         warmup_multistep([50, 80], 10)),
    ],
)  # fmt: skip
def test_settings_name_their_schedule(train, expected):
    schedule = build_schedule(train, 100, 10, lr=2.0)
    assert [schedule(step) for step in range(100)] == [expected(step) for step in range(100)]


def test_a_schedule_that_is_not_there_is_told():
    with pytest.raises(ConfigError, match=r"train.schedule is 'linear'; available: \['cosine', 'multistep', 'poly'\]"):
        build_schedule({"schedule": "linear"}, 100, 10, 1.0)
