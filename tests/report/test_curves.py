"""Logs to curves: torn lines are passed over, thinning keeps the level, colours stay with their runs."""

import json
import re
from dataclasses import replace

import pytest

from pipeline.report import figures
from pipeline.report.curves import MOST, NUM_POINTS, Curve, Panel, loss_panels, read_log, thin
from pipeline.report.figures import loss_figure, style
from pipeline.report.grid import read_grid
from tests.small import folder as folder_of

from .made import make_run, make_study, publish, with_runs


def test_torn_and_foreign_lines_are_passed_over(tmp_path):
    lines = ['{"step": 1, "loss": 2.0}', '{"step": 2, "lr": 0.1}', '{"step": 3, "loss": NaN}', "[]",
             '{"step": 4, "loss": 1.0}', '{"step": 5, "lo']  # fmt: skip
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    assert read_log(tmp_path / "log.jsonl") == ([1.0, 4.0], [2.0, 1.0])


def test_thinning_averages():
    steps, losses = thin(list(range(1000)), [float(i) for i in range(1000)], 10)
    assert steps == [99, 199, 299, 399, 499, 599, 699, 799, 899, 999]
    assert losses == pytest.approx([49.5 + 100 * i for i in range(10)])
    assert thin([1, 2], [3.0, 4.0], 10) == ([1, 2], [3.0, 4.0])


def test_each_pretraining_has_its_panel_and_tasks_share_theirs(study):
    panels = {panel.name: panel for panel in loss_panels(read_grid(study))}
    assert list(panels)[:4] == [f"loss-pretrain-{run}" for run in ("supervised", "mae", "mae-r50", "mae-r90")]
    assert "loss-knn" not in panels
    assert [(c.run, c.seed) for c in panels["loss-pretrain-mae"].curves] == [("mae", 0), ("mae", 1)]
    assert [c.run for c in panels["loss-detect"].curves] == ["supervised", "mae", "mae-r50", "mae-r90"]


def test_many_runs_share_panels_by_method(root):
    names = [f"mae-{i}" for i in range(MOST)]
    study = with_runs(make_study(), *(make_run(name, "mae") for name in names), make_run("sup", "supervised"))
    for name in ("mae-0", "mae-3", "sup"):
        publish(study, "pretrain", name, 0)
        publish(study, "finetune", name, 0)
    panels = {panel.name: panel for panel in loss_panels(read_grid(study))}
    assert list(panels) == [
        "loss-pretrain-mae-vit-micro",
        "loss-pretrain-supervised-vit-micro",
        "loss-finetune-mae",
        "loss-finetune-supervised",
    ]
    assert [curve.run for curve in panels["loss-finetune-mae"].curves] == ["mae-0", "mae-3"]
    assert panels["loss-finetune-mae"].title == "Fine-tuning of MAE"
    assert len(panels["loss-finetune-mae"].curves[0].steps) == NUM_POINTS // 2


def test_a_log_that_changed_since_is_not_drawn(study):
    for seed in (0, 1):
        (folder_of(study, "pretrain", "mae", seed) / "files/log.jsonl").write_text(json.dumps({"step": 1, "loss": 0}))
    assert "loss-pretrain-mae" not in {panel.name for panel in loss_panels(read_grid(study))}


def test_a_curve_breaks_where_a_phase_ends(root):
    study = with_runs(make_study(), make_run("mae", "mae"))
    (root / "work/files").mkdir(parents=True)
    phases = [{"name": "one", "steps": 300}, {"name": "two", "steps": 500}, {"name": "three", "steps": 400}]
    (root / "work/files/phases.json").write_text(json.dumps(phases))
    publish(study, "pretrain", "mae", 0)
    (panel,) = loss_panels(read_grid(study))
    pieces = panel.curves[0].pieces()
    assert [(steps[0], steps[-1]) for steps, _ in pieces] == [(4, 296), (304, 800), (804, 1196)]
    assert [len(steps) for steps, _ in pieces] == [len(losses) for _, losses in pieces]
    whole = replace(panel, curves=(replace(panel.curves[0], ends=()),))
    (broken,), (line,) = (_lines(loss_figure(drawn, ["mae"]).svg) for drawn in (panel, whole))
    assert (broken.count("M"), line.count("M")) == (3, 1) and "phase" in panel.caption


def test_a_panel_names_as_many_runs_as_colours_and_dashes_tell_apart(root):
    names = [f"mae-{i}" for i in range(figures.MOST + 1)]
    assert len({(color, str(dash)) for color, dash in (style(run, names) for run in names)}) == figures.MOST
    curves = tuple(Curve(run=run, seed=s, steps=(0, 1), losses=(2, 1)) for run in names for s in (0, 1))
    panel = Panel(name="loss", stage="knn", title="Loss", caption="Loss.", curves=curves)
    some = loss_figure(replace(panel, curves=curves[2:]), names)
    assert len(_lines(some.svg)) == figures.MOST, "both seeds of a run are one line"
    assert all(f">{name}</text>" in some.svg for name in names[1:]) and some.caption == "Loss."
    every = loss_figure(panel, names)
    assert len(_lines(every.svg)) == len(names) and "mae-1" not in every.svg.replace(every.caption, "")
    assert every.caption.startswith("Loss. 25 runs, more than colours tell apart")


def _lines(svg):
    """Paths of what is drawn within the axes, grid and frame apart."""
    paths = re.findall(r'<path d="([^"]+)" clip-path="[^"]+" style="([^"]+)"', svg)
    return [path for path, look in paths if "currentColor" not in look]


def test_figures_share_a_page_and_depend_on_nothing_but_numbers(study):
    panels = loss_panels(read_grid(study))[:2]
    first, second = (loss_figure(panel, list(study.runs)).svg for panel in panels)
    assert first == loss_figure(panels[0], list(study.runs)).svg
    assert not set(_ids(first)) & set(_ids(second))
    assert "currentColor" in first
    assert "<text" in first  # text stays text: it can be found, and follows the page's font


def _ids(svg):
    return re.findall(r'\bid="([^"]+)"', svg)


def test_runs_beyond_the_palette_are_told_apart_by_dashes():
    runs = [f"run-{i}" for i in range(20)]
    assert len({(color, str(dash)) for color, dash in (style(run, runs) for run in runs)}) == 20
