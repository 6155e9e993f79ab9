"""What became of each cell, and one estimate from its seeds."""

import json

import pytest
from scipy import stats

from pipeline.report.grid import estimate, read_grid
from pipeline.statistics import Spread
from tests.small import folder as folder_of

from .made import FAILED, MISSING, NASTY, publish


def test_every_cell_of_the_study_is_there_once(study):
    grid = read_grid(study)
    assert [(o.stage, o.run, o.seed) for o in grid.outcomes] == list(study.cells())
    assert {s: len(grid.select(status=s)) for s in ("done", "failed", "not run")} == {
        "done": 43,
        "failed": 1,
        "not run": 1,
    }
    (failed,), (missing,) = grid.select(status="failed"), grid.select(status="not run")
    assert (failed.stage, failed.run, failed.seed) == FAILED
    assert failed.error == NASTY
    assert (missing.stage, missing.run, missing.seed) == MISSING
    assert (
        missing.node.command
        == "python -m stages.evaluate --study config/made.yaml --task segment --run mae-r50 --seed 0"
    )


def test_an_unreadable_manifest_is_told_and_no_crash(study):
    (folder_of(study, "knn", "mae", 0) / "manifest.json").write_text('{"format": 1, "rec')
    (folder_of(study, "knn", "mae", 1) / "manifest.json").write_text(json.dumps({"format": 99}))
    first, second = read_grid(study).select("knn", "mae")
    assert (first.status, second.status) == ("damaged", "damaged")
    assert "not JSON" in first.error
    assert "format 99" in second.error


def test_a_new_success_outweighs_an_old_failure(study):
    publish(study, *FAILED)
    assert read_grid(study).select("detect", "random")[0].status == "done"


def test_artefacts_are_only_those_the_manifest_vouches_for(study):
    (outcome,) = read_grid(study).select("finetune", "mae")
    path = outcome.artefact("files/log.jsonl")
    assert path is not None
    path.write_text("tampered")
    (outcome,) = read_grid(study).select("finetune", "mae")
    assert outcome.artefact("files/log.jsonl") is None
    assert outcome.artefact("../../../../../etc/hostname") is None


def test_estimates_over_seeds_use_t_and_single_cells_their_own_interval():
    record = {"metric": "top1", "value": 60.0, "unit": "%", "count": 500, "interval": None}
    two = estimate([record, {**record, "value": 62.0}], Spread(deviation=2**0.5, freedom=1))
    expected = stats.t.interval(0.95, 1, loc=61.0, scale=1.0)
    assert (two.mean, two.basis, two.num_seeds) == (61.0, "seeds", 2)
    assert (two.low, two.high) == pytest.approx(expected)
    assert estimate([record, record], Spread(deviation=1.0, freedom=9, num_runs=9)).basis == "pooled"
    assert estimate([record, record], None).text() == "60.0"
    one = estimate([record], Spread(deviation=1.0, freedom=9, num_runs=9))
    interval = stats.binomtest(300, 500).proportion_ci(method="wilson")
    assert one.basis == "cell"
    assert (one.low, one.high) == pytest.approx((100 * interval.low, 100 * interval.high))
    own = estimate([{**record, "interval": [58.0, 61.0]}], None)
    assert (own.low, own.high) == (58.0, 61.0)


def test_wilson_is_not_claimed_for_what_is_no_proportion():
    assert estimate([{"metric": "box_ap", "value": 20.0, "count": 500, "interval": None}], None).basis == "none"
    assert estimate([], None) is None


def test_a_spread_is_that_of_all_runs_of_the_task(study):
    """Seeds of the made-up study lie 1.7 apart in every run."""
    grid = read_grid(study)
    shared = grid.spread("knn", "top1", "mae")
    assert (shared.num_runs, shared.freedom) == (5, 5) and shared.deviation == pytest.approx(1.7 / 2**0.5)
    found = grid.estimate("knn", "mae", "top1")
    assert found.basis == "pooled" and found.high - found.mean == pytest.approx(stats.t.ppf(0.975, 5) * 1.7 / 2)
    assert grid.estimate("finetune", "mae", "top1").basis == "cell"
