"""Closed formulas against PyTorch's counter, attention unfused, and against numbers worked out by hand."""

from pathlib import Path

import pytest
import timm.layers
import torch
from torch.utils.flop_counter import FlopCounterMode

from pipeline.config import available_methods, models, recipe_head
from pipeline.cost import methods as formulas
from pipeline.cost.encoders import build
from pipeline.cost.methods import elo
from pipeline.cost.work import step_of
from pipeline.data.kinds import load_kind
from pipeline.data.kinds.audiovisual import BANDS
from pipeline.engine.objective import Objective
from pipeline.methods import build_method, load_method
from pipeline.methods.base import Context
from pipeline.nn.encoders import build_encoder
from tests.methods import conftest, recipe

BATCH = 2
GFLOPS = {
    ("mae", "vit_base"): 58.46,
    ("mae", "vit_large"): 124.2,
    ("mae", "vit_huge"): 291.0,
    ("supervised", "vit_base"): 105.2,
    ("dbot", "vit_base"): 93.6,
}
FORMULAS = {path.stem for path in Path(formulas.__file__).parent.glob("*.py")} - {"__init__"}
# What changes the arithmetic of a demo recipe.
CHANGES = [
    *[(name, None, {}) for name in available_methods() if recipe(name)["method"] in FORMULAS],
    ("mae", None, {"mask_ratio": 0.75, "decoder_depth": 2, "decoder_width": 32}),
    ("mae_st", None, {"mask_kind": "space"}),
    ("mae_st", None, {"target_frames": "linspace"}),
    ("dbot", None, {"teacher_depth": 2}),
    ("dbot", "beit_micro", {"symmetric": True}),
    ("imae", None, {"num_branches": 1}),
    ("imae", None, {"distill_weight": 0.0}),
    ("clmae", None, {"module_depth": 2}),
    ("mixmask", None, {"fill": "none"}),
    ("mixmask", None, {"unmix": True}),
    ("mixmask", None, {"base": "simsiam", "projector_out": 16}),
    ("mixmask", None, {"base": "byol"}),
]


@pytest.fixture(autouse=True)
def as_examples_sound(monkeypatch):
    monkeypatch.setattr(elo, "BANDS", BANDS)


@pytest.fixture(autouse=True)
def unfused():
    """The counter knows products of matrices; what a fused kernel computes twice is no part of the arithmetic."""
    timm.layers.set_fused_attn(False)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        yield
    timm.layers.set_fused_attn(True)


def counted(method, batch):
    """Operations of a sample's step."""
    model = Objective(method, seed=0).train()
    with FlopCounterMode(display=False) as count:
        model(**batch, mode="loss")["loss"].backward()
    return count.get_total_flops() / BATCH


@pytest.mark.parametrize(("name", "model", "changes"), CHANGES, ids=str)
def test_a_step_costs_what_the_counter_says(name, model, changes):
    settings = recipe(name)
    settings["options"] |= changes
    settings["model"] = model or settings["model"]
    planned = step_of(settings, "vit_micro" if recipe_head(name).teacher else None).flops
    batch = load_kind(recipe_head(name).kind).example(settings, BATCH)
    # Classifiers of a few classes are left out of the formulas.
    assert planned == pytest.approx(counted(conftest.build(name, model=model, **changes), batch), rel=2e-3)


def test_methods_of_images_clips_and_captions_have_formulas():
    images = {"mae", "dbot", "maskdistill", "imae", "clmae", "mixmask", "supervised"}
    assert images | {"mae_st", "elo", "elo_search", "m3ae"} == FORMULAS
    assert all(load_method(name) for name in FORMULAS)


class Teacher:
    """An encoder of the paper's size, without memory."""

    def encoder(self, grid):
        return build_encoder("vit_base", 16 * grid[0]).eval().requires_grad_(False)


@pytest.mark.parametrize(("name", "model"), GFLOPS)
def test_the_papers_sizes_cost_what_was_worked_out(name, model):
    settings = recipe(name, "paper") | {"model": model}
    assert step_of(settings, "vit_base" if name == "dbot" else None).flops == pytest.approx(
        1e9 * GFLOPS[name, model],
        rel=1e-3,  # as it was rounded
    )


@pytest.mark.parametrize(("name", "model"), GFLOPS)
def test_so_says_the_counter_on_the_meta_device(name, model):
    settings = recipe(name, "paper") | {"model": model}
    context = Context(num_classes=1000, num_steps=1, batch_size=BATCH, teacher=Teacher())
    with torch.device("meta"):
        method = build_method(settings, context)
    batch = load_kind("images").example(settings, BATCH)
    method = Objective(method, seed=0).train()
    batch = {name: value.to("meta") for name, value in batch.items()}
    with FlopCounterMode(display=False) as count:
        method(**batch, mode="loss")["loss"].backward()
    assert count.get_total_flops() / BATCH == pytest.approx(1e9 * GFLOPS[name, model], rel=5e-4)


SIDES = {
    "vit_micro": 32,
    "beit_micro": 32,
    "resnet_micro": 32,
    "vit_joint_micro": 32,
    "resnet50": 96,
    "vit_st_micro": 16,
    "r2plus1d_micro": 16,
    "r2plus1d_18": 32,
    "r2plus1d_50": 40,
}


@pytest.mark.parametrize("model", SIDES)
def test_an_encoder_costs_what_the_counter_says_and_is_as_large(model):
    family = models()[model]["family"]
    frames = models()[model].get("num_frames")
    encoder = build_encoder(model, SIDES[model], 0.0, frames).eval()
    samples = torch.randn(1, 3, *([frames] if frames else []), SIDES[model], SIDES[model])
    with FlopCounterMode(display=False) as count, torch.no_grad():
        encoder.forward_features(samples)
    planned = build(model, SIDES[model], frames)
    assert planned.whole.forward == pytest.approx(count.get_total_flops(), rel=1e-6)
    # Norms and positions aside.
    assert planned.whole.parameters == pytest.approx(sum(p.numel() for p in encoder.parameters()), rel=0.05), family


def test_what_a_method_publishes_is_as_large_as_planned():
    for name in ("mae", "clmae", "mae_st"):
        trained = sum(p.numel() for p in conftest.build(name).parameters() if p.requires_grad)
        assert step_of(recipe(name), None).parameters == pytest.approx(trained, rel=0.05)
