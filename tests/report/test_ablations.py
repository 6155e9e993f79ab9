"""Ablations are found in settings, never in names."""

from dataclasses import replace

from pipeline.report.ablations import ablation_table, find_ablations
from pipeline.report.figures import PALETTE, ablation_figures
from pipeline.report.grid import read_grid

from .made import RECIPE, make_run, make_study, publish, value_of, with_runs, written

BLUE = PALETTE[0]


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
    runs = {**study.runs, "mae-r50": make_run("mae-r50", "mae", changes=changes)}
    found = find_ablations(read_grid(replace(study, runs=runs)))
    assert [[run for _, run in ablation.points] for ablation in found] == [["mae", "mae-r90"]]


def test_words_and_teachers_are_axes_too(root):
    runs = (
        *(make_run(name, "random") for name in ("z", "a")),
        *(make_run(f"taught-{name}", "supervised", teacher=name) for name in ("z", "a")),
    )
    (ablation,) = find_ablations(read_grid(with_runs(make_study(), *runs)))
    assert ablation.setting == "teacher"
    assert not ablation.is_numeric
    assert [value for value, _ in ablation.points] == ["z", "a"], "words keep the order of the study"


def test_a_chain_of_teachers_is_a_number_of_stages(root):
    """The second stage's teacher is the first stage; what it learned from first is the axis of its own."""
    runs = [make_run("random", "random"), make_run("supervised", "supervised")]
    for first in ("random", "supervised"):
        for stage in (1, 2, 3):
            teacher = first if stage == 1 else f"{first}-{stage - 1}"
            runs.append(make_run(f"{first}-{stage}", "mae", teacher=teacher))
    found = find_ablations(read_grid(with_runs(make_study(), *runs)))
    stages = [ablation for ablation in found if ablation.setting == "stages"]
    assert [ablation.points for ablation in stages] == [
        tuple((stage, f"{first}-{stage}") for stage in (1, 2, 3)) for first in ("random", "supervised")
    ]
    assert all(ablation.is_numeric and ablation.title == "MAE: number of stages" for ablation in stages)
    assert len({ablation.name for ablation in found}) == 5
    teachers = [ablation for ablation in found if ablation.setting == "teacher"]
    assert [ablation.points for ablation in teachers] == [
        (("random", f"random-{stage}"), ("supervised", f"supervised-{stage}")) for stage in (1, 2, 3)
    ]
    assert len(found) == 5


def test_a_teacher_of_another_method_or_model_begins_a_chain(root):
    (root / "config/models/vit.yaml").write_text(
        "takes: [images]\ngives: [features, maps, patches]\nmodels: {vit_micro: {width: 96}, vit_base: {width: 768}}\n"
    )
    runs = (
        make_run("large", "mae", changes={"model": "vit_base"}),
        make_run("small", "mae", teacher="large"),
        make_run("other", "supervised", teacher="small"),
    )
    traits = read_grid(with_runs(make_study(), *runs)).traits
    assert [(traits[run.name]["teacher"], traits[run.name]["stages"]) for run in runs] == [
        (None, 1), ("large", 1), ("small", 1)
    ]  # fmt: skip


def test_two_ends_of_a_span_are_one_choice(root):
    spans = {"a": (1.0, -1.0), "b": (0.0, 0.0), "c": (-1.0, 1.0)}
    recipe = {**RECIPE, "options": {"curriculum_start": 1.0, "curriculum_end": -1.0}}
    (root / "config/recipes/mae.yaml").write_text(written("mae", recipe))
    runs = [
        make_run(name, "mae", changes={"options.curriculum_start": start, "options.curriculum_end": end})
        for name, (start, end) in spans.items()
    ]
    (ablation,) = find_ablations(read_grid(with_runs(make_study(), *runs)))
    assert ablation.points == (("1 → −1", "a"), ("0 → 0", "b"), ("−1 → 1", "c"))


def test_a_table_has_the_tasks_that_its_runs_have(study):
    tasks = {**study.tasks, "detect": replace(study.tasks["detect"], runs=("random",)),
             "segment": replace(study.tasks["segment"], runs=("random", "mae-r90"))}  # fmt: skip
    grid = read_grid(replace(study, tasks=tasks))
    keys = [column.key for column in ablation_table(grid, find_ablations(grid)[0]).columns]
    assert keys == [
        "value",
        "run",
        "knn.top1",
        "linear_probe.top1",
        "finetune.top1",
        "segment.miou",
        "samples_per_second",
    ]


def test_what_is_left_open_is_a_level_beside_numbers(root):
    recipe = {**RECIPE, "options": {"mix_weight": None}}
    (root / "config/recipes/mae.yaml").write_text(written("mae", recipe))
    runs = [make_run(f"mae-{value}", "mae", changes={"options.mix_weight": value}) for value in (None, 0.5, 0.1)]
    study = with_runs(make_study(), *runs)
    for run in runs:
        publish(study, "knn", run.name, 0)
    grid = read_grid(study)
    (ablation,) = find_ablations(grid)
    assert ablation.is_numeric
    assert [value for value, _ in ablation.points] == [0.1, 0.5, None]
    (one,) = ablation_figures(grid, ablation)
    assert ">none<" in one.svg and ">0.5<" in one.svg


def test_words_are_bars_and_numbers_a_line(study):
    grid = read_grid(study)
    (numbers,) = find_ablations(grid)
    words = replace(numbers, points=tuple((f"at {value}", run) for value, run in numbers.points))
    for ablation, shape, texts in ((numbers, "line", (">0.5<", ">0.9<")), (words, "bars", (">at 0.5<", ">at 0.9<"))):
        first = ablation_figures(grid, ablation)[0]
        caption, svg = first.caption, first.svg
        assert first.name.endswith("knn-top1")
        assert all(text in svg for text in texts)
        assert ("need not begin at zero" in caption) == (shape == "bars")
        bars = svg.count(f"fill: {BLUE}; opacity: 0.75")
        assert bars == (3 if shape == "bars" else 0)
    mean = sum(value_of("knn", "top1", "mae", seed) for seed in (0, 1)) / 2
    assert f">{mean:.1f}<" in svg, "a bar tells its value"


def test_a_panel_needs_two_points_and_names_its_gaps(study):
    grid = read_grid(study)
    figures = ablation_figures(grid, find_ablations(grid)[0])
    assert len(figures) == 7  # and the speed
    one = next(figure for figure in figures if figure.name.endswith("segment-miou"))
    assert one.caption.endswith("no value at 0.5.")
    assert one.svg.startswith("<svg") and "<title>Segmentation mIoU" in one.svg
    assert one.pdf.startswith(b"%PDF-") and b"/Type3" not in one.pdf, "publishers refuse fonts of type 3"
    assert one == ablation_figures(grid, find_ablations(grid)[0])[figures.index(one)], "bytes depend on numbers alone"


def test_many_numbers_share_the_ticks_of_an_axis(study, monkeypatch):
    grid = read_grid(study)
    (ablation,) = find_ablations(grid)
    assert ">0.75<" in ablation_figures(grid, ablation)[0].svg
    monkeypatch.setattr("pipeline.report.figures.TICKS", len(ablation.points) - 1)
    drawn = ablation_figures(grid, ablation)[0].svg
    assert ">0.75<" not in drawn and ">0.6<" in drawn


def costs(speed, device="A"):
    return {"seconds": 60.0, "device": device, "num_devices": 8, "num_threads": 1, "unit": "clips",
            "samples_per_second": speed}  # fmt: skip


def test_pretraining_speed_is_drawn_over_the_setting(root):
    study = make_study()
    speeds = {("mae-r50", 0): 100.0, ("mae", 0): 200.0, ("mae", 1): 210.0, ("mae-r90", 0): 400.0}
    for (run, seed), speed in speeds.items():
        publish(study, "pretrain", run, seed, cost=costs(speed))
    grid = read_grid(study)
    (ablation,) = find_ablations(grid)
    table = ablation_table(grid, ablation)
    assert table.columns[-1].title == "Pretraining, clips/s"
    assert [row[-1].value.mean for row in table.rows] == [100, 205, 400]
    assert table.rows[1][-1].value.num_seeds == 2 and table.rows[1][-1].evidence == ("pretrain/mae-0", "pretrain/mae-1")
    (one,) = ablation_figures(grid, ablation)
    assert one.name.endswith("pretrain-samples-per-second")
    assert one.caption.startswith("Speed of pretraining by mask ratio")
    assert ">Speed of pretraining, clips/s<" in one.svg and one.svg.count(f"stroke: {BLUE}") > 0


def test_speeds_of_several_machines_are_not_compared(root):
    study = make_study()
    for run, device in (("mae-r50", "A"), ("mae", "B"), ("mae-r90", "A")):
        publish(study, "pretrain", run, 0, cost=costs(100.0, device))
    grid = read_grid(study)
    (ablation,) = find_ablations(grid)
    assert ablation_table(grid, ablation).columns[-1].key != "samples_per_second"
    assert not ablation_figures(grid, ablation)
