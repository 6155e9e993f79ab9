"""The two evaluations of blended images, on features whose answer is known."""

import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pipeline.config import ConfigError
from pipeline.manifest import publish
from pipeline.methods import build_method
from pipeline.nn.encoders import build_encoder, save_encoder
from pipeline.tasks.separability import (
    Branches,
    agreement,
    compare,
    draw_pairs,
    features,
    plot,
    records,
    separate,
    trained_branches,
    without_places,
)
from tests.methods import recipe
from tests.methods.conftest import build, context

PENALTIES = [1e-6, 1e-2, 1.0]


@pytest.fixture
def parts():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 200, 4, 6, generator=generator)


def test_what_lies_in_separate_directions_is_separable(parts):
    fainter, stronger = parts
    blend = torch.cat([fainter, stronger], dim=2) @ torch.randn(12, 12, generator=torch.Generator().manual_seed(1))
    found = separate(blend, fainter, PENALTIES)
    assert found["r2"] > 0.999 and found["cosine"] > 0.999 and found["penalty"] == 1e-6


def test_a_sum_gives_each_part_half_of_its_variance(parts):
    fainter, stronger = parts
    found = separate(fainter + stronger, fainter, PENALTIES)
    assert abs(found["r2"] - 0.5) < 0.05
    assert separate(fainter + stronger, fainter.roll(1, 0), PENALTIES)["r2"] < 0.05  # a partner of another blend
    assert separate(fainter + stronger, fainter, PENALTIES, measured=stronger)["r2"] < 0.55


def test_ridge_is_the_closed_form(parts):
    """Against the normal equations on an explicit column of ones, for a vanishing penalty."""
    x, y = parts
    y = y + x @ torch.randn(6, 6, generator=torch.Generator().manual_seed(2)) + 3
    fit, test = x[:90].flatten(0, 1), x[100:].flatten(0, 1)
    ones = torch.ones(len(fit), 1)
    weights = torch.linalg.lstsq(torch.cat([fit, ones], 1), y[:90].flatten(0, 1)).solution
    expected = compare((torch.cat([test, torch.ones(len(test), 1)], 1) @ weights).unflatten(0, (100, 4)), y[100:])
    found = separate(x, y, [1e-12])
    assert found["r2"] == pytest.approx(expected["r2"], abs=1e-5)
    assert found["mse"] == pytest.approx(expected["mse"], rel=1e-4)


def test_agreement_counts_neighbours_of_the_same_class():
    described = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
    assert agreement(described, torch.tensor([0, 0, 1, 1]), 1) == 1.0
    assert agreement(described, torch.tensor([0, 1, 0, 1]), 1) == 0.0
    assert agreement(described, torch.tensor([0, 0, 1, 1]), 20) == pytest.approx(1 / 3)


def test_pairs_are_of_different_images():
    pairs, noise = draw_pairs(50, 30, 16, seed=0)
    assert pairs.shape == (30, 2) and noise.shape == (30, 16)
    assert (pairs[:, 0] != pairs[:, 1]).all() and len(pairs[:, 0].unique()) == 30


class Made:
    """Forty images that differ."""

    labels = torch.arange(40) % 4

    def __getitems__(self, samples):
        seeds = [torch.Generator().manual_seed(index) for _, index in samples]
        return {"images": torch.stack([torch.randn(3, 16, 16, generator=seed) for seed in seeds])}


def test_features_are_those_of_the_same_visible_patches():
    """A blend of one image with itself has that image's features; a share of 0 leaves the stronger image."""
    torch.manual_seed(0)
    encoder = build_encoder("vit_micro", 16).eval()
    settings = {"batch_size": 7, "mask_ratio": 0.5}
    same = torch.stack([torch.arange(10), torch.arange(10)], dim=1)
    _, noise = draw_pairs(40, 10, 16, seed=0)
    found = features(encoder, Made(), same, noise, 0.3, settings, None)
    assert found["blend"].shape == (10, 8, 96)
    assert torch.allclose(found["blend"], found["fainter"], atol=1e-5)
    pairs, noise = draw_pairs(40, 10, 16, seed=0)
    found = features(encoder, Made(), pairs, noise, 0.0, settings, None)
    assert torch.allclose(found["blend"], found["stronger"], atol=1e-5)
    assert not torch.allclose(found["blend"], found["fainter"], atol=1e-1)
    maps, embed = [nn.Linear(96, 12), nn.Linear(96, 12)], nn.Linear(96, 12)
    found = features(encoder, Made(), pairs, noise, 0.3, settings, Branches(maps=maps, teacher=encoder, embed=embed))
    assert found["fainter branch"].shape == found["stronger taught"].shape == (10, 8, 12)


def test_records_are_means_over_shares(tmp_path):
    def measures(share, value):
        measured = {"r2": value, "cosine": value / 2, "mse": 0.0}
        return {"share": share, "fainter": measured, "stronger": measured, "fainter shuffled": measured,
                "agreement": {5: value}}  # fmt: skip

    by_share = [measures(0.1, 0.2), measures(0.4, 0.6)]
    found = {record["metric"]: record for record in records(by_share, 30)}
    assert found["r2_fainter"]["value"] == 0.4 and found["cosine_stronger"]["value"] == 0.2
    assert found["agreement_k5"] == {"metric": "agreement_k5", "value": 40.0, "unit": "%", "higher_is_better": True,
                                     "count": 30, "interval": None}  # fmt: skip
    assert not found["r2_fainter_shuffled"]["higher_is_better"]
    json.dumps(by_share)
    plot(by_share, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_what_every_image_shows_at_a_place_is_taken_off():
    """A feature that is the place alone leaves nothing; what differs between images stays."""
    generator = torch.Generator().manual_seed(0)
    places = torch.rand(400, 9, generator=generator).argsort(dim=1)[:, :4]
    table, content = torch.randn(9, 6, generator=generator), 0.1 * torch.randn(400, 4, 6, generator=generator)
    assert without_places(table[places], places).abs().max() < 1e-5
    left = without_places(table[places] + content, places)
    assert (left - content).abs().max() < 0.05
    by_hand = (table[places] + content)[:180][places[:180] == 3].mean(dim=0)
    assert torch.allclose((table[places] + content - left)[places == 3][0], by_hand, atol=1e-6)


@pytest.fixture
def runs(tmp_path):
    """runs(name, method) publishes a run as pretraining does; what it returns is the cell that measures it."""

    def published(name, method, teacher=None, rename=lambda name: name):
        work = tmp_path / f"{name}-work/files"
        work.mkdir(parents=True)
        save_encoder(method.exported(), work / "encoder.safetensors")
        own = {rename(key): value for key, value in method.state_dict().items() if not key.startswith("teacher.")}
        save_file(own, work / "method.safetensors")
        kind = type(method).__name__.lower()
        publish(tmp_path / f"{name}-0", work, {"stage": "pretrain", "settings": recipe(kind)})
        return SimpleNamespace(
            encoder=tmp_path / f"{name}-0/files/encoder.safetensors",
            encoder_teacher=teacher and tmp_path / f"{teacher}-0/files/encoder.safetensors",
        )

    return published


def test_branches_are_those_that_the_run_published(runs):
    torch.manual_seed(1)
    mae, method = build_method(recipe("mae"), context(num_classes=4)), build("imae", start_from_teacher=False)
    alone = runs("mae", mae)
    cell = runs("imae", method, teacher="mae")
    found = trained_branches(cell, 16, 4)
    tokens = torch.randn(2, 3, 96)
    for ours, theirs in zip(found.maps, method.branches, strict=True):
        assert torch.equal(ours(tokens), theirs(tokens))
    assert torch.equal(found.embed.weight, mae.decoder.embed.weight)
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(found.teacher.forward_features(images), mae.encoder.eval().forward_features(images))
    assert trained_branches(alone, 16, 4) is None  # which has none


def test_branches_that_do_not_fit_the_method_are_an_error_and_not_left_out(runs):
    runs("mae", build_method(recipe("mae"), context(num_classes=4)))
    cell = runs("imae", build("imae"), "mae", rename=lambda name: name.replace("branches.", "heads."))
    with pytest.raises(ConfigError, match=r"does not fit IMAE: missing \['branches.0.*not known \['heads.0"):
        trained_branches(cell, 16, 4)
