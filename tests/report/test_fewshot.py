"""Few-shot curves from the numbers in metrics' names."""

import re
from dataclasses import replace

from pipeline.report.fewshot import shot_figures, sized_metrics
from pipeline.report.grid import read_grid

from .made import make_study, publish

SIZES = (10, 100, 1000)


def test_a_metric_at_several_sizes_is_a_curve(root):
    study = make_study()
    for run, level in (("mae", 60.0), ("random", 40.0)):
        for seed in (0, 1):
            names = [*(f"accuracy_n{size}" for size in reversed(SIZES)), "loss_n10", "top1"]
            records = [{"metric": name, "value": level + seed + len(name), "unit": "%", "higher_is_better": True,
                        "count": 50, "interval": None} for name in names]  # fmt: skip
            publish(study, "knn", run, seed, records=records)
    grid = read_grid(study)
    assert sized_metrics(grid, "knn") == {"accuracy": list(SIZES), "loss": [10]}
    (figure,) = shot_figures(grid)
    assert figure.name == "few-shot-knn-accuracy"
    assert figure.caption.startswith("k-NN accuracy by the number of labelled images")
    texts = re.findall(r">([^<>]+)</text>", figure.svg)
    assert {"10", "100", "1,000", "mae", "random", "labelled images"} <= set(texts)


def test_of_more_runs_than_colours_tell_apart_none_is_named(root, monkeypatch):
    monkeypatch.setattr("pipeline.report.fewshot.MOST", 1)
    study = make_study()
    for run in ("mae", "random"):
        records = [{"metric": f"top1_n{size}", "value": 50.0, "unit": "%", "higher_is_better": True, "count": 5,
                    "interval": None} for size in (1, 5)]  # fmt: skip
        publish(study, "knn", run, 0, records=records)
    (figure,) = shot_figures(read_grid(study))
    assert ">mae<" not in figure.svg and figure.caption.endswith(
        "2 runs, more than colours tell apart; the table has their names."
    )


def test_numbers_of_each_class_are_said_to_be_that(root):
    study = make_study()
    task = study.tasks["knn"]
    study.tasks["knn"] = replace(task, head=task.head.model_copy(update={"per_class": True}))
    records = [{"metric": f"top1_n{size}", "value": 50.0 + size, "unit": "%", "higher_is_better": True, "count": 5,
                "interval": None} for size in (1, 5)]  # fmt: skip
    publish(study, "knn", "mae", 0, records=records)
    (figure,) = shot_figures(read_grid(study))
    assert "by the number of labelled images of each class;" in figure.caption
    assert "labelled images of each class" in figure.svg


def test_a_study_without_such_metrics_has_no_curve(study):
    assert shot_figures(read_grid(study)) == []
