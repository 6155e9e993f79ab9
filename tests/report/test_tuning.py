"""What was tried of each method, with what came of it, and what the study made of that."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.report import tuning
from pipeline.report.build import build
from pipeline.report.grid import read_grid
from pipeline.report.tuning import tuning_grid, tuning_table

from .made import make_run, make_study, publish, with_runs

RATIO = "options.mask_ratio"


@pytest.fixture
def tuned(root, monkeypatch):
    """Three mask ratios of MAE, of which the last was not run."""
    runs = [make_run(f"mae-{ratio}", "mae", changes={RATIO: ratio}) for ratio in (0.3, 0.5, 0.75)]
    found = with_runs(replace(make_study(name="tuned"), seeds=(0,)), *(replace(run, seeds=(0,)) for run in runs))
    for run in runs[:2]:
        publish(found, "pretrain", run.name, 0, cost={"seconds": 90.0, "num_devices": 1})
        publish(found, "knn", run.name, 0)
    monkeypatch.setattr(tuning, "load_study", lambda path: {Path("config/tuned.yaml"): found}[path])
    return found


def test_values_stand_beside_their_results_and_what_is_used(tuned):
    table = tuning_table(read_grid(make_study()), read_grid(tuned))
    assert [[entry.text for entry in row] for row in table.rows] == [
        ["supervised", "nothing", "–", "–", "–", "–", "–"],
        ["MAE", "mask ratio", "0.3, 0.5, 0.75", "k-NN top-1, %", "50.0, 50.0, –", "0.75, 0.5, 0.9", "3.0 min"],
    ]


def test_what_was_not_run_says_so(tuned):
    for cell in Path("results/tuned/knn").iterdir():
        (cell / "manifest.json").unlink()
    assert tuning_table(read_grid(make_study()), read_grid(tuned)).rows[1][4].text == "not run"


def test_a_study_that_names_none_has_no_such_table(tuned):
    assert tuning_grid(make_study()) is None
    assert 'id="tuning"' not in build(make_study()).read_text()


def test_the_report_shows_it(tuned):
    page = build(replace(make_study(), tuning=Path("config/tuned.yaml"))).read_text()
    assert '<section id="tuning">' in page and 'href="#tuning"' in page and "0.3, 0.5, 0.75" in page
    read = json.loads(Path("reports/made/manifest.json").read_text())["inputs"]
    assert "results/tuned/knn/mae-0.5-0/manifest.json" in read, "the report names what it was made from"
    assert Path("reports/made/tables/tuning.csv").read_text().startswith("method,setting,values,metric,results,used")
