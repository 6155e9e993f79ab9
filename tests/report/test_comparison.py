"""Verdicts, and that they are drawn at the papers' scale only."""

from pathlib import Path

import pytest
import yaml

from pipeline.config import ConfigError, flatten, load_study
from pipeline.report.comparison import _runs, comparison_tables, differences, load_comparisons, verdict
from pipeline.report.grid import read_grid
from pipeline.report.papers import load_quotes

from .made import COMPARISONS, fill, make_run, make_study, publish, with_runs

ROOT = Path(__file__).parents[2]
OWN = sorted(path.stem for path in (ROOT / "config/comparisons").glob("*.yaml"))
CHAIN = ((1, "random"), (2, "mae-1"), (3, "mae-2"))


@pytest.mark.parametrize(
    ("status", "mean", "differences", "expected"),
    [
        ("done", 83.6, [], "within"),
        ("done", 83.3, [], "within"),  # exactly at the tolerance, which 0.3 in binary misses
        ("done", 83.9, [], "within"),
        ("done", 83.29, [], "outside"),
        ("done", 84.0, [], "outside"),
        ("done", 83.6, ["train.duration: 800 epochs here, 1600 epochs there"], "protocol differs"),
        ("failed", None, [], "failed"),
        ("not run", None, [], "not run"),
        ("failed", None, ["x"], "failed"),
        ("done", None, [], "not run"),
    ],
)
def test_verdicts(status, mean, differences, expected):
    assert verdict(status, mean, 83.6, 0.3, differences) == expected


def rows_of(study):
    quotes = load_quotes("config/papers/mae.yaml")
    tables = comparison_tables(read_grid(study), "mae", quotes)
    return tables, {
        (row[0].text, row[1].text): dict(zip([c.key for c in table.columns], row, strict=True))
        for table in tables
        for row in table.rows
    }


def test_each_declared_comparison_is_a_row_with_its_verdict(root):
    study = make_study(scale="paper")
    fill(study)
    tables, rows = rows_of(study)
    assert [table.title for table in tables] == ["Against Made paper Table 1", "Against Made paper Table 2"]
    assert {key: row["verdict"].text for key, row in rows.items()} == {
        ("mae", "k-NN top-1"): "within",
        ("mae", "Fine-tuning top-1"): "outside",
        ("mae-r50", "Detection box AP"): "protocol differs",
        ("mae-r50", "Segmentation mIoU"): "not run",
    }
    assert rows["mae", "k-NN top-1"]["difference"].value == pytest.approx(61.85 - 61.9)
    assert rows["mae", "Fine-tuning top-1"]["reported"].text == "63"
    differing = rows["mae-r50", "Detection box AP"]
    assert differing["differences"].text == "detect data: scenes_coco here, coco there"
    assert differing["difference"].value is None
    assert differing["source"].text == "Made paper Table 2 (a remark)"


def test_a_demo_is_never_set_against_a_paper(study):
    assert rows_of(study) == ([], {})


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"quote": {"method": "MAE"}}, "fits 4 reported numbers"),
        ({"quote": {"task": "haruspicy"}}, "fits 0 reported numbers"),
        ({"quote": {"colour": "red"}}, "expected a mapping with some of the keys"),
        ({"tolerance": -1}, "expected a number of at least 0"),
        ({"surplus": 1}, "expected"),
    ],
)
def test_a_declaration_must_name_one_number(root, change, complaint):
    path = root / "config/comparisons/mae.yaml"
    whole = yaml.safe_load(path.read_text())
    whole["comparisons"][1] |= change
    path.write_text(yaml.safe_dump(whole))
    with pytest.raises(ConfigError, match=f"entry 2.*{complaint}"):
        load_comparisons("mae", load_quotes("config/papers/mae.yaml"))


def test_a_chain_is_chosen_by_its_stages_and_first_teacher(root):
    runs = [make_run("random", "random"), *(make_run(f"mae-{i}", "mae", teacher=t) for i, t in CHAIN)]
    study = with_runs(make_study(scale="paper"), *runs)
    declared = {**COMPARISONS[0], "run": {"teacher": "random", "stages": 2}}
    (root / "config/comparisons/mae.yaml").write_text(yaml.safe_dump({"comparisons": [declared]}))
    for name in study.runs:
        publish(study, "knn", name, 0)
    _, rows = rows_of(study)
    assert list(rows) == [("mae-2", "k-NN top-1")]


def test_a_second_hand_number_is_marked_beside_a_measurement(root):
    path = root / "config/papers/mae.yaml"
    path.write_text(path.read_text().replace("kind: paper", "kind: second_hand", 1))
    study = make_study(scale="paper")
    fill(study)
    _, rows = rows_of(study)
    assert rows["mae", "k-NN top-1"]["reported"].note == "second hand"
    assert rows["mae", "Fine-tuning top-1"]["reported"].note == ""


@pytest.mark.parametrize("method", OWN)
def test_the_projects_own_declarations_name_settings_that_exist(method, monkeypatch):
    monkeypatch.chdir(ROOT)
    comparisons = load_comparisons(method, load_quotes(f"config/papers/{method}.yaml"))
    assert comparisons
    tasks = load_study("config/paper.yaml").tasks
    for comparison in comparisons:
        for stage, settings in [*comparison.protocol.items(), ("pretrain", comparison.run)]:
            path = ROOT / (
                f"config/recipes/{method}.yaml" if stage == "pretrain" else f"config/tasks/{tasks[stage].protocol}.yaml"
            )
            known = {*flatten(yaml.safe_load(path.read_text())["paper"]), "teacher", "stages", "data"}
            assert set(settings) <= known, f"{path} lacks {sorted(set(settings) - known)}"


@pytest.mark.parametrize("method", OWN)
def test_each_of_the_projects_own_declarations_is_about_one_run_of_the_paper_study(method, monkeypatch):
    """What no run reproduces is a number merely quoted; what two reproduce was not told apart."""
    monkeypatch.chdir(ROOT)
    grid = read_grid(load_study("config/paper.yaml"))
    for comparison in load_comparisons(method, load_quotes(f"config/papers/{method}.yaml")):
        assert len(_runs(grid, method, comparison)) == 1, f"{comparison.task} of {comparison.run}"


def test_the_paper_studys_runs_keep_to_what_their_papers_do(monkeypatch):
    """Differences to a paper's protocol are declared ones: MAE's pyramid, MixMask's probe, dBOT's own rates."""
    monkeypatch.chdir(ROOT)
    grid = read_grid(load_study("config/paper.yaml"))
    found = set()
    for method in OWN:
        for comparison in load_comparisons(method, load_quotes(f"config/papers/{method}.yaml")):
            (run,) = _runs(grid, method, comparison)
            found |= {(method, text.partition(":")[0]) for text in differences(grid, run, comparison)}
    assert found == {
        ("mae", "detect pyramid.taps"),
        *(("mixmask", f"linear_probe {key}") for key in ("train.batch_size", "train.duration", "train.warmup",
          "train.optimizer", "train.base_lr", "train.schedule", "train.milestones", "normalise",
          "augment.interpolation")),
        *(("dbot", f"finetune {key}") for key in ("train.base_lr", "drop_path", "train.clip_norm", "head_std")),
        *(("dbot", f"segment {key}") for key in ("train.lr", "train.layer_decay", "drop_path")),
    }  # fmt: skip


def test_smaller_training_images_are_another_protocol(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    raw = yaml.safe_load(Path("config/paper.yaml").read_text())
    raw["data"]["imagenet-1k"]["short_side"] = 256
    study = tmp_path / "paper.yaml"
    study.write_text(yaml.safe_dump(raw))
    grid, quotes = read_grid(load_study(study)), load_quotes("config/papers/mae.yaml")
    comparison = load_comparisons("mae", quotes)[0]
    (run,) = _runs(grid, "mae", comparison)
    assert any("short sides of 256 pixels at most here" in text for text in differences(grid, run, comparison))
