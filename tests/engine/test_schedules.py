import math

import pytest

from pipeline.engine.schedules import warmup_cosine, warmup_multistep, warmup_poly


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
