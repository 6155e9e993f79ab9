"""The plan that dvc.yaml reads: all of the study, resolved, and never out of date unnoticed."""

from collections import Counter
from pathlib import Path

import pytest
import yaml

from pipeline import plan
from pipeline.config import ConfigError, load_study
from pipeline.graph import Graph
from tests.small import PROTOCOLS, SCENES, STUDY, changed, load, write_recipe, write_study

ROOT = Path(__file__).parent.parent


def test_every_node_stands_there_with_what_it_reads_and_its_settings(project):
    study = load()
    resolved = plan.resolve(study)
    found = [f"{stage}@{key}" for stage, nodes in resolved["nodes"].items() for key in nodes]
    assert Counter(found) == Counter(node.name for node in Graph(study))
    encoder = "results/small/pretrain/mae-0/manifest.json"
    assert resolved["nodes"]["detect"]["mae-0"] == {
        "run": "mae", "reads": ["data/scenes/manifest.json", encoder], "folder": "results/small/detect/mae-0",
        "command": "python -m stages.evaluate --study config/small.yaml --task detect --run mae --seed 0",
    }  # fmt: skip
    settings = plan.settings(study)
    measured = {run for run, stages in settings.items() if "detect" in stages}
    assert measured == {"random", "mae"}, "runs a task does not measure are no part of it"
    assert settings["mae-r50"]["pretrain"] == Graph(study).node("pretrain", "mae-r50", 0).identity
    free = {"num_workers", "checkpoint_every", "log_every", "compile"}
    decisive = study.settings("pretrain", "mae-r50")["train"].keys() - free
    assert settings["mae-r50"]["pretrain"]["train"].keys() == decisive
    assert settings["scenes"]["prepare"] == {"source": "scenes_coco", **SCENES}
    assert (resolved["study"], resolved["file"]) == ("small", "config/small.yaml")


def test_what_is_written_is_read_back_whole(project):
    path, file = plan.write(load())
    assert (path, file) == (Path("config/plans/small.json"), Path("dvc/small/dvc.yaml"))
    assert yaml.safe_load(path.read_text()) == plan.resolve(load())
    for run, settings in plan.settings(load()).items():
        assert yaml.safe_load(path.with_suffix("").joinpath(f"{run}.json").read_text()) == settings
    stages = yaml.safe_load(file.read_text())["stages"]
    assert list(stages) == ["prepare", "pretrain", "knn", "detect", "report"]


def test_a_plan_out_of_date_is_told(project):
    told = r"config/plans/small\S*.json is not what .* say now; run `python -m stages.plan --study config/small.yaml`"
    with pytest.raises(ConfigError, match=told):
        plan.check(load())
    plan.write(load())
    plan.check(load())
    write_recipe(project / "config/tasks/knn.yaml", PROTOCOLS["knn"] | {"num_neighbours": 5})
    with pytest.raises(ConfigError, match=told):
        plan.check(load())
    plan.write(load())
    write_study(project, changed(STUDY, "runs/mae-r50/set", {"options.mask_ratio": 0.6}))
    with pytest.raises(ConfigError, match=told):
        plan.check(load())


def test_the_plan_of_a_run_that_is_gone_goes_too(project):
    plan.write(load())
    gone = Path("config/plans/small/gone.json")
    gone.write_text("{}")
    with pytest.raises(ConfigError, match=f"{gone} is not what"):
        plan.check(load())
    plan.write(load())
    plan.check(load())
    assert not gone.exists()


@pytest.mark.parametrize("path", sorted((ROOT / "config/plans").glob("*.json")), ids=lambda path: path.stem)
def test_every_plan_in_the_tree_is_up_to_date(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    plan.check(load_study(f"config/{path.stem}.yaml"))


def test_there_is_a_plan_for_dvc():
    named = yaml.safe_load((ROOT / "dvc.yaml").read_text())["vars"]
    assert named and all((ROOT / name).is_file() for name in named), f"{named}: run `python -m stages.plan`"
