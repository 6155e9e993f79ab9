"""Every recipe's augmentation can be built, for each model that it has numbers of its own for."""

import pytest
import yaml

from pipeline.config import RECIPES, ConfigError, Run, _recipe, available_methods
from pipeline.data.augment import build_transform
from tests.real import ROOT


def models_of(name, scale):
    section = yaml.safe_load((ROOT / RECIPES / f"{name}.yaml").read_text())[scale]
    of_images = "train" in section and section["data"] == "images"
    return [section["model"], *section.get("by_model", {})] if of_images else []


@pytest.mark.parametrize(
    "name, scale, model",
    [
        (name, scale, model)
        for name in available_methods()
        for scale in ("demo", "paper")
        for model in models_of(name, scale)
    ],
)
def test_augmentations_of_recipes_can_be_built(name, scale, model, monkeypatch):
    monkeypatch.chdir(ROOT)
    run = Run(name=name, method=name, seeds=(0,), changes={"model": model}, teacher=None, weights=None, cluster={})
    section = _recipe(run, scale)["augment"]
    assert build_transform(section).image_size == section["image_size"]


def test_mistakes_are_told():
    with pytest.raises(ConfigError, match=r"augment.kind is 'blur'; available: \['auto', 'crop', 'jitter'\]"):
        build_transform({"kind": "blur", "image_size": 16})
    with pytest.raises(ConfigError, match=r"augment \(crop\) is .*missing"):
        build_transform({"kind": "crop", "image_size": 16})
