"""The leaderboard: who is ahead of whom and how surely, what it cost, and numbers that are no percentages."""

from dataclasses import replace

import pytest

from pipeline.config import Task, protocol_head
from pipeline.report.ablations import find_ablations
from pipeline.report.figures import ablation_figures
from pipeline.report.grid import read_grid
from pipeline.report.ranking import improvement_interval, rank_intervals
from pipeline.report.results import INTERVALS, improvement, leaderboard, leaderboards, task_table
from pipeline.report.table import to_csv

from .made import SETS, make_run, make_study, publish, with_runs, written


def rows_of(table):
    keys = [column.key for column in table.columns]
    return {row[0].text: dict(zip(keys, row, strict=True)) for row in table.rows}


def record(metric, value, unit="%", higher=True):
    return {"metric": metric, "value": value, "unit": unit, "higher_is_better": higher, "count": 50, "interval": None}


def test_each_run_is_held_against_the_next_one_down(study):
    """On k-NN supervised wins 2 of 4 pairs and ties one; it is ahead of the next on all the others."""
    for run, values in {"supervised": (50.0, 52.0), "mae-r90": (51.0, 50.0)}.items():
        for seed, value in enumerate(values):
            publish(study, "knn", run, seed, records=[record("top1", value)])
    table = leaderboard(read_grid(study), study.tracks["images"])
    rows = rows_of(table)
    assert list(rows) == ["mae", "supervised", "mae-r90", "random", "mae-r50"]
    assert rows["supervised"]["improvement"].value == pytest.approx((2.5 / 4 + 4) / 5)
    assert rows["supervised"]["improvement"].text == "0.93"
    assert rows["supervised"]["improvement"].note == "5 tasks, 11 pairs"  # two tasks of 2 × 2 seeds, three of one
    assert rows["mae"]["improvement"].value == 1.0
    assert set(rows["mae"]["improvement"].evidence) >= {"knn/mae-0", "knn/mae-1", "segment/supervised-0"}
    for run in ("mae-r90", "random", "mae-r50"):  # the last of the ranking, and those that have no place in it
        assert rows[run]["improvement"].value is None


def test_a_lower_value_is_an_improvement_where_lower_is_better(study):
    for run in study.runs:
        publish(study, "finetune", run, 0, records=[record("top1", 2.0, higher=False)])
    for value, ahead in ((1.0, 5), (2.0, 4.5), (3.0, 4)):
        publish(study, "finetune", "mae", 0, records=[record("top1", value, higher=False)])
        assert improvement(read_grid(study), "mae", "supervised", tuple(study.tasks)).value == pytest.approx(ahead / 5)


def test_an_improvement_says_what_little_it_rests_on(root):
    study = with_runs(make_study(), make_run("mae", "mae"), make_run("random", "random"))
    assert improvement(read_grid(study), "mae", "random", tuple(study.tasks)).text == "no task in common"
    publish(study, "knn", "mae", 0)
    publish(study, "finetune", "random", 0)
    assert improvement(read_grid(study), "mae", "random", tuple(study.tasks)).text == "no task in common"
    publish(study, "knn", "random", 1)
    found = improvement(read_grid(study), "mae", "random", tuple(study.tasks))
    assert (found.text, found.note) == ("1.00", "1 task, one seed")


def test_runs_are_ranked_by_the_tasks_that_all_of_them_have(study):
    tasks = {**study.tasks, "detect": replace(study.tasks["detect"], runs=("mae", "mae-r50")),
             "segment": replace(study.tasks["segment"], runs=("mae", "random"))}  # fmt: skip
    table = leaderboard(read_grid(other := replace(study, tasks=tasks)), other.tracks["images"])
    rows = rows_of(table)
    assert [rows[run]["mean_rank"].value for run in ("mae", "mae-r50", "supervised", "mae-r90", "random")] == [
        1.0, 2.0, 3.0, 4.0, 5.0
    ]  # fmt: skip
    gap, told = rows["supervised"]["detect.box_ap"], "– marks a task on which the study does not measure the run."
    assert (gap.text, gap.value) == ("–", None) and told in table.notes
    assert told not in leaderboard(read_grid(study), study.tracks["images"]).notes


def test_pretraining_has_its_price_or_a_word_for_why_not(study, root):
    rows = rows_of(leaderboard(read_grid(study), study.tracks["images"]))
    assert rows["mae"]["pretrain_hours"].value == pytest.approx(2 * 61.25 / 3600)
    assert (rows["mae"]["pretrain_hours"].text, rows["mae"]["pretrain_hours"].note) == ("2.0 min", "1,960 images/s")
    other = replace(make_study(), name="other")
    assert rows_of(leaderboard(read_grid(other), other.tracks["images"]))["mae"]["pretrain_hours"].text == "not run"


def test_each_number_says_whose_spread_its_interval_has(study):
    publish(study, "knn", "random", 1, records=[record("top1", 60.0)])
    table = task_table(read_grid(study), "knn")
    notes = {run: row["top1"].note for run, row in rows_of(table).items()}
    assert notes["random"].startswith("n = 2, own spread: ") and notes["mae"].startswith("n = 2: ")
    assert INTERVALS in table.caption
    assert table.notes == ("Pooled standard deviation between seeds: k-NN top-1 1.20 (4 runs, 4 degrees of freedom).",)


def test_what_the_study_notes_of_a_task_stands_below_its_tables(study):
    grid = read_grid(replace(study, tasks={**study.tasks, "knn": replace(study.tasks["knn"], note="Of toys.")}))
    assert task_table(grid, "knn").notes[0] == "Of toys."
    (board,) = leaderboards(grid)
    assert "k-NN: Of toys." in board.notes
    assert not any("Of toys." in note for note in task_table(grid, "linear_probe").notes)


PROBES = [("knn", "top1"), ("linear_probe", "top1")]


def test_places_and_odds_are_as_sure_as_what_they_rest_on(study):
    """Seeds lie 1.7 apart and means of mae and mae-r50 three, but for k-NN, where they are made to tie."""
    for seed in (0, 1):
        publish(study, "knn", "mae-r50", seed, records=[record("top1", 61.0 + 1.7 * seed)])
    grid = read_grid(study)
    spans = dict(zip(study.runs, rank_intervals(grid, PROBES, [True, True], list(study.runs)), strict=True))
    assert spans["random"] == (5.0, 5.0) and spans["mae-r90"] == (4.0, 4.0)
    assert spans["mae"] == (1.0, 1.5) and spans["mae-r50"] == (1.5, 2.0)
    low, high = improvement_interval(grid, PROBES, [True, True], "mae", "mae-r50")
    assert 0.35 < low < 0.75 < high < 1, "even on k-NN, better on the probe"
    low, high = improvement_interval(grid, PROBES[:1], [True], "mae", "mae-r50")
    assert low < 0.3 and high > 0.7
    assert improvement_interval(grid, PROBES[1:], [False], "random", "mae")[0] > 0.999, "lower is better"
    assert rank_intervals(grid, [*PROBES, ("finetune", "top1")], [True] * 3, list(study.runs)) == [None] * 5
    assert improvement_interval(grid, [("finetune", "top1")], [True], "mae", "random") is None, "one seed of each"


@pytest.fixture
def separable(study):
    """The made-up study with i-MAE's task, whose numbers are no percentages, measured on two runs of three."""
    (study.path.parent / "tasks/separability.yaml").write_text(written("separability", {"shares": [0.1]}))
    task = Task(
        name="separability",
        protocol="separability",
        head=protocol_head("separability"),
        data=SETS["digits"],
        seeds=(0, 1),
        runs=("mae", "mae-r50", "mae-r90"),
        changes={},
    )
    study = replace(study, tasks={**study.tasks, "separability": task})
    for run, value in {"mae": 0.41237, "mae-r50": -0.25}.items():
        for seed in (0, 1):
            found = [record("r2_fainter", value + 0.01 * seed, ""), record("r2_stronger", 0.9, ""),
                     record("agreement_k5", 61.23)]  # fmt: skip
            publish(study, "separability", run, seed, records=found)
    return study


def test_plain_numbers_have_no_percent_sign_and_enough_decimals(separable):
    grid = read_grid(separable)
    table = leaderboard(grid, grid.study.tracks["images"])
    rows = rows_of(table)
    assert rows["mae"]["separability.r2_fainter"].text == "0.417 ± 0.064"
    assert rows["mae"]["knn.top1"].text == "61.9 ± 2.2"
    assert rows["mae-r90"]["separability.r2_fainter"].text == "not run"
    assert "in %, R² fainter as a plain number" in table.caption
    own = task_table(grid, "separability")
    assert [column.title for column in own.columns[1:4]] == ["R² fainter", "R² stronger", "agreement k = 5, %"]
    assert rows_of(own)["mae"]["r2_fainter"].note == "n = 2, own spread: 0.4124, 0.4224"
    assert rows_of(own)["mae"]["agreement_k5"].text == "61.23"
    assert "0.41737" in to_csv(table)


def test_a_panel_of_plain_numbers_has_no_percent_sign(separable):
    grid = read_grid(separable)
    (ablation,) = find_ablations(grid)
    figures = ablation_figures(grid, ablation)
    plain = next(one.svg for one in figures if "separability" in one.name)
    assert ">Separability R² fainter<" in plain
    assert "%" not in plain.split("</title>")[1]
    assert any(">k-NN top-1, %<" in one.svg for one in figures)
    words = replace(ablation, points=tuple((f"at {value}", run) for value, run in ablation.points))
    bars = next(one.svg for one in ablation_figures(grid, words) if "separability" in one.name)
    assert ">0.417<" in bars and ">-0.245<" in bars, "places are rounded, texts are not"
