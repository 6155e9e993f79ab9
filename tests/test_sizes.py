"""What a set is too small for is told once it is prepared, with the key, the number and the way out."""

import json
import shutil
import sys

import pytest
import yaml

from pipeline.config import ConfigError, load_study, sizes
from stages import prepare
from tests.real import ROOT
from tests.real import write as write_project


@pytest.fixture
def study(tmp_path, monkeypatch):
    """The smoke study with changes of one run or task: `study("tasks", "knn", num_neighbours=81)`."""
    path = tmp_path / write_project(tmp_path)
    monkeypatch.chdir(tmp_path)

    def changed(kind=None, name=None, **changes):
        content = json.loads(json.dumps(yaml.safe_load((ROOT / "config/smoke.yaml").read_text())))  # no aliases
        if kind:
            content[kind][name].setdefault("set", {}).update({key.replace("__", "."): v for key, v in changes.items()})
        path.write_text(yaml.safe_dump(content))
        return load_study(path.relative_to(tmp_path))

    return changed


def check(study, train=80, val=40, name="smoke-digits"):
    data = {"splits": {"train": {"count": train}, "val": {"count": val}}}
    sizes.check(study, name, data, ("pretrain", *study.tasks), study.runs)


def test_what_fits_is_passed_over(study):
    check(study())
    check(study("tasks", "knn", num_neighbours=80))
    check(study("tasks", "separability", num_neighbours=[5, 39]))
    check(study("tasks", "knn", num_neighbours=81), name="smoke-scenes-coco")


@pytest.mark.parametrize(
    ("kind", "name", "changes", "told"),
    [
        ("tasks", "knn", {"num_neighbours": 81}, r"tasks.knn of \w+ has num_neighbours 81; expected at most 80"),
        ("tasks", "separability", {"num_neighbours": [5, 40]}, r"num_neighbours \[5, 40\]; expected at most 39"),
        ("tasks", "separability", {"num_pairs": 19}, r"19 pairs \(num_pairs\); expected at least 20"),
        ("tasks", "linear_probe", {"holdout_share": 0.006}, "holdout_share 0.006, which holds out no sample"),
        (
            "tasks",
            "finetune",
            {"train__accumulate": 81, "train__batch_size": 81},
            "train.accumulate 81; expected at most one for each of 80",
        ),
        (
            "runs",
            "mae",
            {"train__duration": "0.01 epochs"},
            "runs.mae has .* '0.01 epochs', which is no step",
        ),
        ("runs", "mae", {"train__warmup": "2 epochs"}, "train.warmup '2 epochs', 10 steps of a training of 3"),
    ],
)
def test_what_does_not_is_told(study, kind, name, changes, told):
    with pytest.raises(ConfigError, match=rf"^data.smoke-digits has 80 training and 40 .*{told}.*config/tiny.yaml"):
        check(study(kind, name, **changes))


def test_prepare_tells_it_before_anything_is_published_and_goes_on_once_it_is_mended(study, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["prepare", "--study", "config/tiny.yaml", "--data", "smoke-digits"])
    study("tasks", "knn", num_neighbours=81)
    with pytest.raises(SystemExit, match=r"error: data.smoke-digits has 80 training .* expected at most 80"):
        prepare.main()
    assert not (tmp_path / "data/smoke-digits/manifest.json").exists()
    study()
    prepare.main()
    told = json.loads((tmp_path / "data/smoke-digits/manifest.json").read_text())
    assert told["data"]["splits"]["train"]["count"] == 80
    shutil.rmtree(tmp_path / "data")
