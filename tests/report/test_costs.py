"""Utilisation by hand, and a reason wherever there is a dash."""

import pytest

from pipeline.report.costs import cost_table, device_hours, duration, peak_flops, utilisation
from pipeline.report.grid import read_grid

from .made import publish


def test_utilisation_is_arithmetic_over_peak():
    cost = {
        "samples_per_second": 1000.0,
        "flops_per_sample": 312e9,
        "device": "cuda: NVIDIA A100-SXM4-80GB",
        "num_devices": 8,
    }
    share, reason = utilisation(cost, "bf16")
    assert share == pytest.approx(1000 * 312e9 / (8 * 312e12))
    assert reason == ""


@pytest.mark.parametrize(
    ("cost", "reason"),
    [
        (
            {"samples_per_second": 10.0, "flops_per_sample": 1e9, "device": "cpu: Made-Up 9000"},
            "no published bf16 peak",
        ),
        ({"samples_per_second": 10.0, "flops_per_sample": None, "device": "NVIDIA H100"}, "did not count"),
    ],
)
def test_an_unknown_utilisation_has_a_reason(cost, reason):
    share, why = utilisation(cost, "bf16")
    assert share is None
    assert reason in why


def test_peaks_are_of_the_device_named():
    assert peak_flops("NVIDIA H100 PCIe", "bf16") == 756e12
    assert peak_flops("NVIDIA H100 80GB HBM3", "bf16") == 989.4e12
    assert peak_flops("NVIDIA L40S", "bf16") == 362e12
    assert peak_flops("Tesla V100-SXM2-16GB", "bf16") is None


def test_costs_add_up_and_explain_their_dashes(study):
    cost = {"seconds": 3600.0, "device": "NVIDIA H100 80GB HBM3", "num_devices": 4,
            "samples_per_second": 2000.0, "flops_per_sample": 50e9, "kwh": 2.5,
            "peak_memory_gib": 70.0}  # fmt: skip
    for seed in (0, 1):
        publish(study, "pretrain", "mae", seed, cost=cost)
    grid = read_grid(study)
    table = cost_table(grid)
    keys = [column.key for column in table.columns]
    rows = {(row[0].text, row[1].text): dict(zip(keys, row, strict=True)) for row in table.rows}
    assert len(rows) == 30
    mae = rows["Pretraining", "mae"]
    assert mae["device_hours"].value == pytest.approx(8.0)
    assert mae["kwh"].value == pytest.approx(5.0)
    assert mae["mfu_percent"].value == pytest.approx(100 * 2000 * 50e9 / (4 * 989.4e12))
    assert mae["unit"].text == "samples"  # the cells do not say what theirs are
    assert rows["Pretraining", "random"]["unit"].text == "images"
    assert rows["Pretraining", "random"]["kwh"].text == "–"
    assert rows["Detection", "random"]["cells_done"].text == "0 of 1"
    assert any("energy was not measured" in note for note in table.notes)
    assert any("no published bf16 peak is recorded for “cpu: Made-Up 9000”" in note for note in table.notes)
    assert device_hours(grid.select("pretrain", "mae")) == pytest.approx(8.0)


def test_durations_read_naturally():
    assert [duration(hours) for hours in (0.01, 0.5, 1234.5)] == ["36 s", "30.0 min", "1,234.5 h"]
