"""Cost with that of teachers, and the front of best results for their cost."""

from dataclasses import replace

import pytest

from pipeline.report.effort import cost_of, efforts
from pipeline.report.figures import effort_figure
from pipeline.report.grid import read_grid

from .made import make_run, make_study, publish, with_runs

COST = {"random": 0.0, "supervised": 1.0, "mae": 100.0, "mae-r50": 200.0, "mae-r90": 50.0, "deep": 30.0}
REACHED = {"random": 9.0, "supervised": 90.0, "mae": 60.0, "mae-r50": 58.0, "mae-r90": 40.0, "deep": 70.0}


@pytest.fixture
def study(root):
    """Four runs, one that reads labels and one untrained; `deep` learns from `mae`."""
    runs = [
        *(make_run(name, name) for name in ("random", "supervised")),
        *(make_run(name, "mae") for name in ("mae", "mae-r50", "mae-r90")),
    ]
    found = with_runs(make_study(), *runs, make_run("deep", "mae", teacher="mae"))
    found = replace(found, tasks={"knn": found.tasks["knn"]})
    for run, seconds in COST.items():
        for seed in (0, 1):
            cost = {"seconds": seconds + seed, "num_devices": 2}
            publish(found, "pretrain", run, seed, cost=cost)
            record = {"metric": "top1", "value": REACHED[run] + seed, "unit": "%", "higher_is_better": True,
                      "count": 50, "interval": None}  # fmt: skip
            publish(found, "knn", run, seed, records=[record])
    return found


def test_a_teachers_cost_is_its_students_too(study):
    grid = read_grid(study)
    assert cost_of(grid, "mae") == pytest.approx(2 * 100.5 / 3600)
    assert cost_of(grid, "deep") == pytest.approx(2 * (30.5 + 100.5) / 3600)


def test_the_front_holds_whom_none_surpasses_at_its_cost(study):
    (effort,) = efforts(read_grid(study))
    assert effort.front == ("mae-r90", "mae", "deep")
    assert set(effort.points) == set(COST) - {"random"} and set(effort.levels) == {"random"}
    assert effort.caption.endswith(
        "teachers included; on the front of best results for their cost: mae-r90, mae, deep."
    )


def test_a_run_without_its_teacher_has_no_cost(study, root):
    for seed in (0, 1):
        (root / f"results/made/pretrain/mae-{seed}/manifest.json").unlink()
    grid = read_grid(study)
    assert cost_of(grid, "deep") is None and set(efforts(grid)[0].points) == {"supervised", "mae-r50", "mae-r90"}


def test_the_figure_names_every_run_and_its_unit(study):
    (effort,) = efforts(read_grid(study))
    svg = effort_figure(effort, list(study.runs)).svg
    assert all(f">{run}<" in svg for run in COST) and "pretraining, device minutes" in svg


def test_of_many_runs_the_figure_names_those_on_the_front(study, monkeypatch):
    (effort,) = efforts(read_grid(study))
    monkeypatch.setattr("pipeline.report.figures.MOST", len(effort.points) - 1)
    one = effort_figure(effort, list(study.runs))
    drawn = one.svg.replace(one.caption, "")
    assert all(f">{run}</text>" in drawn for run in effort.front)
    assert not any(f">{run}</text>" in drawn for run in set(effort.points) - set(effort.front))
    assert one.caption.endswith("deep. Runs on the front alone are named.")
