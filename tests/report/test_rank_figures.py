"""Ranks over tasks: a bump chart of any study, a critical-difference diagram of one with tasks enough."""

from dataclasses import replace

import numpy as np

from pipeline.report.friedman import friedman
from pipeline.report.grid import read_grid
from pipeline.report.rank_figures import rank_figures

from .made import make_study, publish, record


def track_of(study):
    return next(iter(study.tracks.values()))


def test_few_tasks_are_a_bump_chart_which_says_why_not_more(study):
    (figure,) = rank_figures(read_grid(study), track_of(study))
    assert figure.name == "ranks-images"
    assert "needs 11 tasks at least" in figure.caption and "here are 5 and 3;" in figure.caption
    for text in (">mae (1.0)<", ">supervised (2.0)<", ">mae-r90 (3.0)<", ">k-NN<", ">box AP<"):
        assert text in figure.svg
    assert ">random" not in figure.svg, "a run without a mean rank has no line"


def many_tasks(study, count, scores):
    """The study with `count` instances of k-NN in place of its tasks; run i has `scores[task][i]`."""
    tasks = {f"knn-{i}": replace(study.tasks["knn"], name=f"knn-{i}", seeds=(0,)) for i in range(count)}
    wide = replace(study, tasks=tasks)
    for i, task in enumerate(tasks):
        for run, value in zip(study.runs, scores[i], strict=True):
            publish(wide, task, run, 0, records=[record("top1", value)])
    return wide


def test_many_tasks_are_a_critical_difference_diagram_as_well(root):
    scores = np.round(np.random.default_rng(2).normal([50, 56, 57, 53, 50], 3, (12, 5)), 3).tolist()
    study = many_tasks(make_study(), 12, scores)
    bump, diagram = rank_figures(read_grid(study), track_of(study))
    expected = friedman(scores, [True] * 12)
    assert "needs 11" not in bump.caption and expected.p < 0.05
    assert f"F = {expected.f:.2f}" in diagram.caption and f">CD {expected.critical:.2f}<" in diagram.svg
    for run, rank in zip(study.runs, expected.ranks, strict=True):
        assert f">{run} ({rank:.2f})<" in diagram.svg
    groups = "; ".join(", ".join(list(study.runs)[i] for i in group) for group in expected.groups)
    assert len(expected.groups) > 1 and f"does not tell apart: {groups}." in diagram.caption


def test_where_nothing_differs_no_group_is_drawn(root):
    scores = np.round(np.random.default_rng(3).normal(50, 3, (12, 5)), 3).tolist()
    study = many_tasks(make_study(), 12, scores)
    _, diagram = rank_figures(read_grid(study), track_of(study))
    assert "it tells no run from another" in diagram.caption


def test_two_ranked_runs_are_no_chart(root):
    study = make_study()
    for run in ("mae", "supervised"):
        for task in study.tasks:
            for seed in study.tasks[task].seeds:
                publish(study, task, run, seed)
    assert rank_figures(read_grid(study), track_of(study)) == []
