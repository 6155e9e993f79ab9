"""Ablations are found in settings, never in names."""

from dataclasses import replace

from pipeline.config import Run
from pipeline.report.ablations import ablation_table, find_ablations
from pipeline.report.figures import ablation_figures
from pipeline.report.grid import read_grid

from .made import make_study, value_of


def test_the_mask_ratio_is_found_and_ordered(study):
    (ablation,) = find_ablations(read_grid(study))
    assert (ablation.method, ablation.setting) == ("mae", "options.mask_ratio")
    assert ablation.points == ((0.5, "mae-r50"), (0.75, "mae"), (0.9, "mae-r90"))
    table = ablation_table(read_grid(study), ablation)
    assert [row[0].text for row in table.rows] == ["0.5", "0.75", "0.9"]
    knn = [column.key for column in table.columns].index("knn.top1")
    assert table.rows[1][knn].value.mean == sum(value_of("knn", "top1", "mae", seed) for seed in (0, 1)) / 2


def test_runs_that_differ_in_two_settings_are_no_ablation(root):
    study = make_study()
    changes = {"options.mask_ratio": 0.5, "options.decoder_depth": 1}
    runs = {**study.runs, "mae-r50": Run(name="mae-r50", method="mae", changes=changes, teacher=None, cluster={})}
    found = find_ablations(read_grid(replace(study, runs=runs)))
    assert [[run for _, run in ablation.points] for ablation in found] == [["mae", "mae-r90"]]


def test_words_and_teachers_are_axes_too(root):
    study = make_study()
    runs = {
        "mae": study.runs["mae"],
        "taught": Run(name="taught", method="mae", changes={}, teacher="mae", cluster={}),
    }
    tasks = {name: replace(task, runs=tuple(runs)) for name, task in study.tasks.items()}
    (ablation,) = find_ablations(read_grid(replace(study, runs=runs, tasks=tasks)))
    assert ablation.setting == "teacher"
    assert not ablation.is_numeric


def test_a_panel_needs_two_points_and_names_its_gaps(study):
    grid = read_grid(study)
    figures = ablation_figures(grid, find_ablations(grid)[0])
    assert len(figures) == 6
    caption, svg = next(figure for name, figure in figures.items() if name.endswith("segment-miou"))
    assert caption.endswith("no value at 0.5.")
    assert svg.startswith("<svg") and "<title>Segmentation mIoU" in svg
