"""The stage that says what a study costs."""

import sys

import pytest

from stages import cost
from tests.cost.test_estimate import NODE, STUDY, study  # noqa: F401


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["cost", "--study", "config/mine.yaml", *arguments])
    cost.main()


def test_it_tells_stages_runs_and_totals(study, monkeypatch, capsys):  # noqa: F811
    study()
    run(monkeypatch, "--mfu", "0.4", "--devices", "32")
    told = capsys.readouterr().out
    for words in ("on H100", "40 % of 989.4 TFLOP/s in bf16", "(as given)", "linear_probe", "mae-200", "device-hours",
                  "kWh", "packs 144 GiB", "Longest chain", "on 32 devices", "Not counted: "
                  "detection's and segmentation's evaluation"):  # fmt: skip
        assert words in told


def test_a_study_whose_jobs_do_not_end_in_time_is_refused(study, monkeypatch):  # noqa: F811
    study(cluster={**STUDY["cluster"], "pretrain": {**NODE, "cpus": 48, "hours": 12}})
    told = (
        r"(?s)^error: 1 of 9 cells of config/mine.yaml do not end .*pretrain@mae-0: asks for 12 h, needs 13 h "
        r"on 8 devices, waiting for 48 cores to read\nAsk for more nodes"
    )
    with pytest.raises(SystemExit, match=told):
        run(monkeypatch, "--mfu", "0.4")


def test_a_budget_lists_runs(study, monkeypatch, capsys):  # noqa: F811
    study()
    run(monkeypatch, "--budget", "100")
    told = capsys.readouterr().out
    assert "random" in told and "dbot" not in told
    run(monkeypatch, "--budget", "1e6")
    told = capsys.readouterr().out
    assert told.startswith("What fits 1,000,000 device-hours, the cheapest first") and "0 of 5 runs do not" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--mfu", "40"), "--mfu is 40; expected a number from 0.001 to 1"),
        (("--devices", "0"), "--devices is 0; expected a number from 1 to"),
        (("--device", "V100"), "the study computes in bf16, for which no peak is known of this device"),
    ],
)
def test_what_cannot_be_is_told(study, monkeypatch, arguments, told):  # noqa: F811
    study()
    with pytest.raises(SystemExit, match="^error: " + told.replace("(", r"\(")):
        run(monkeypatch, *arguments)
