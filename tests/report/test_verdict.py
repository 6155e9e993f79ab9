"""The report in words: each sentence against records made to call for it."""

from dataclasses import replace

import pytest

from pipeline.report.grid import read_grid
from pipeline.report.results import leaderboard
from pipeline.report.untrained import gains
from pipeline.report.verdict import verdict

from .made import make_run, make_study, publish, with_runs


def told(study):
    return dict(verdict(read_grid(study)))


def measure(study, task, values, higher=True):
    """One value of the task's headline metrics for each seed of each run."""
    metrics = study.tasks[task].head.headline
    for run, seeds in values.items():
        for seed, value in enumerate(seeds):
            same = {"value": value, "unit": "%", "higher_is_better": higher, "count": 500, "interval": None}
            records = [{"metric": metric, **same} for metric in metrics]
            publish(study, task, run, seed, records=records)


@pytest.fixture
def small(root):
    """Four runs of two methods and two references, measured on k-NN alone with two seeds each."""
    study = with_runs(
        make_study(), *(make_run(name, name) for name in ("random", "supervised")),
        *(make_run(name, "mae") for name in ("mae", "mae-r50")),
    )  # fmt: skip
    return replace(study, tasks={"knn": study.tasks["knn"]})


CLEAR = {"random": (9.0, 9.4), "supervised": (80.0, 81.0), "mae": (60.0, 61.0), "mae-r50": (40.0, 40.6)}


def test_references_do_not_lead_and_a_clear_lead_is_called_one(small):
    measure(small, "knn", CLEAR)
    said = told(small)["images"]
    assert "mae leads 2 runs, mean rank 2.0 over one task, before mae-r50 with 3.0, by more than the noise" in said
    assert "ahead of the untrained encoder in 3 of 3 comparisons, level with it in 0, behind in 0." in said
    assert "supervised leads" not in said


def test_a_run_that_has_only_references_beside_it_leads_nobody(small):
    one = with_runs(small, *(run for name, run in small.runs.items() if name != "mae-r50"))
    measure(one, "knn", {run: values for run, values in CLEAR.items() if run != "mae-r50"})
    assert told(one)["images"].startswith("mae is the only ranked run beside untrained and supervised ones. Training")


def test_a_lead_within_the_noise_is_not_called_one(small):
    measure(small, "knn", CLEAR | {"mae-r50": (60.9, 59.9)})
    assert "before mae-r50 with 3.0, within the noise between seeds" in told(small)["images"]


def test_what_is_behind_is_named_in_the_verdict_and_in_its_row(small):
    measure(small, "knn", CLEAR | {"mae": (5.0, 5.2), "mae-r50": (9.1, 9.5)})
    said = told(small)["images"]
    assert "in 1 of 3 comparisons, level with it in 1, behind in 1: mae in k-NN (5.1 against 9.2)." in said
    rows = {row[0].text: row[0].note for row in leaderboard(read_grid(small), small.tracks["images"]).rows}
    expected = "not ahead of untrained: k-NN"
    assert rows == {"random": "", "supervised": "", "mae": expected, "mae-r50": expected}


def test_lower_is_ahead_where_lower_is_better(small):
    measure(small, "knn", {"random": (9.0, 9.4), "mae": (5.0, 5.2), "mae-r50": (9.1, 9.5)}, higher=False)
    found = {gain.run: gain for gain in gains(read_grid(small), small.tracks["images"])}
    assert found["mae"].verdict == "ahead" and found["mae-r50"].verdict == "level"
    assert found["mae"].lead == pytest.approx(4.1) and 0 < found["mae"].low < 4.1 < found["mae"].high


def test_the_best_of_several_untrained_encoders_is_the_one_to_beat(small):
    other = with_runs(small, *small.runs.values(), make_run("random-wide", "random"))
    measure(other, "knn", CLEAR | {"random-wide": (50.0, 50.4)})
    assert "behind in 1: mae-r50 in k-NN (40.3 against 50.2)." in told(other)["images"]


def test_without_intervals_any_lead_counts_and_that_is_said(small):
    one = replace(small, tasks={"detect": replace(make_study().tasks["detect"], runs=tuple(small.runs))})
    measure(one, "detect", {run: values[:1] for run, values in CLEAR.items()})
    said = told(one)["images"]
    assert "noise between seeds is not known" in said
    assert "in 3 of 3 comparisons, level with it in 0, behind in 0 (3 of the comparisons without an interval)." in said


def test_a_study_that_has_not_begun_says_so(small):
    assert told(small) == {
        "images": "No run was measured on all ranking tasks yet.",
        "cells": "0 of 16 are done, 16 not run; numbers that need them are missing.",
    }


def test_cells_that_failed_are_told(study):
    assert told(study)["cells"] == "43 of 45 are done, 1 failed, 1 not run; numbers that need them are missing."
