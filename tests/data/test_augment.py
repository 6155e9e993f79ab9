"""Every recipe's augmentation can be built, for each model that it has numbers of its own for."""

import numpy as np
import pytest
import torch
import yaml

from pipeline.config import PROTOCOLS, RECIPES, ConfigError, available_methods
from pipeline.config.heads import RECIPE_HEAD
from pipeline.config.sections import section
from pipeline.data.augment import build_transform
from pipeline.data.transforms import normalised
from tests.real import ROOT


def models_of(name, scale):
    raw = yaml.safe_load((ROOT / RECIPES / f"{name}.yaml").read_text())
    numbers = raw[scale]
    of_images = "train" in numbers and raw["kind"] == "images"
    return [numbers["model"], *numbers.get("by_model", {})] if of_images else []


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
    augment = section(RECIPES / f"{name}.yaml", RECIPE_HEAD, scale, {"model": model}, "here")["augment"]
    assert build_transform(augment).image_size == augment["image_size"]


def test_mistakes_are_told():
    with pytest.raises(ConfigError, match=r"augment.kind is 'blur'; available: \['auto', 'crop', 'jitter'\]"):
        build_transform({"kind": "blur", "image_size": 16})
    with pytest.raises(ConfigError, match=r"augment \(crop\) is .*missing"):
        build_transform({"kind": "crop", "image_size": 16})


def paper_sections():
    """Every augmentation at paper scale, of recipes for each model, and of protocols; told by where it stands."""
    found = {}
    for path in sorted([*(ROOT / RECIPES).glob("*.yaml"), *(ROOT / PROTOCOLS).glob("*.yaml")]):
        section = yaml.safe_load(path.read_text())["paper"]
        if (augment := section.get("augment", {})).get("kind"):
            found[path.stem] = augment
            for model, overlay in section.get("by_model", {}).items():
                if changes := overlay.get("augment"):
                    found[f"{path.stem}-{model}"] = augment | changes
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", paper_sections())
def test_twenty_thousand_samples_raise_nothing(name):
    """Of several shapes, made small: what an operation may refuse are its numbers."""
    transform = build_transform(paper_sections()[name] | {"image_size": 16})
    rng = np.random.default_rng(0)
    pictures = [torch.from_numpy(rng.integers(0, 256, (3, h, w), np.uint8)) for h, w in ((16, 24), (30, 11), (1, 3))]
    for index in range(20_000):
        sizes = torch.tensor([pictures[index % 3].shape[1:]])
        epochs, indices = torch.tensor([index % 7]), torch.tensor([index])
        image = normalised(transform.read(lambda *_: pictures[index % 3], sizes, 0, epochs, indices))[0]  # noqa: B023
        assert image.shape == (3, 16, 16) and torch.isfinite(image).all()
