"""FLOPs against formulas by hand, on the meta device and where a pass has to be real."""

import pytest
import torch

from pipeline.config import models
from pipeline.engine.flops import _for_real, _on_meta, count_flops
from pipeline.engine.objective import Objective
from pipeline.methods import build_method
from pipeline.nn.encoders import build_encoder
from tests.methods import recipe
from tests.methods.conftest import batch, build, context  # noqa: F401  (a fixture)

PATCHES, PIXELS, WIDTH = 16, 48, models()["vit_micro"]["width"]


def block(tokens, width):
    """A forward pass through a transformer block: projections, the MLP of four widths, and attention's two products."""
    return 2 * tokens * (4 + 8) * width**2 + 4 * tokens**2 * width


def mae(options):
    """Forward and backward of one image; the first map's input, pixels, needs no gradient."""
    depth, small = models()["vit_micro"]["num_blocks"], options.decoder_width
    visible = 1 + int(PATCHES * (1 - options.mask_ratio))
    embed = 2 * PATCHES * PIXELS * WIDTH
    rest = depth * block(visible, WIDTH) + options.decoder_depth * block(1 + PATCHES, small)
    rest += 2 * visible * WIDTH * small + 2 * (1 + PATCHES) * small * PIXELS
    return 2 * embed + 3 * rest


def test_of_mae_they_are_those_of_a_formula_by_hand(batch):  # noqa: F811
    method = build("mae")
    assert _on_meta(Objective(method, seed=0).train(), batch) == 8 * mae(method.options)


class Teacher:
    def encoder(self, grid):
        return build_encoder("vit_base", (16 * grid[0], 16 * grid[1]))


@pytest.mark.parametrize(
    ("name", "model", "gflop", "digits"),
    [
        ("mae", "vit_base", 58.46, 2),
        ("mae", "vit_large", 124.2, 1),
        ("mae", "vit_huge", 291.0, 1),
        ("supervised", "vit_base", 105.2, 1),
        ("dbot", "vit_base", 93.6, 1),
    ],
)
def test_of_the_papers_models_they_are_those_of_formulas_by_hand(name, model, gflop, digits):
    with torch.device("meta"):
        method = build_method({**recipe(name, "paper"), "model": model}, context(teacher=Teacher(), num_classes=1000))
        labels, index = torch.zeros(2, dtype=torch.int64), torch.arange(2)
        sample = {"images": torch.empty(2, 3, 224, 224), "labels": labels, "epoch": labels, "index": index}
        found = _on_meta(Objective(method, seed=0).to("meta").train(), sample)
    assert round(found / 2e9, digits) == gflop


@pytest.mark.parametrize("name", ["mae", "dbot", "imae", "supervised"])
def test_a_real_pass_of_few_samples_counts_the_same(name, batch):  # noqa: F811
    objective = Objective(build(name), seed=0).train()
    assert _for_real(objective, batch) == _on_meta(objective, batch)


def test_nothing_is_allocated_for_counting_and_nothing_stays(batch, monkeypatch):  # noqa: F811
    objective = Objective(build("mae"), seed=0)
    monkeypatch.setattr("pipeline.engine.flops._for_real", lambda *_: pytest.fail("a real pass"))
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    state = torch.random.get_rng_state()
    assert count_flops(objective, batch) > 0
    assert torch.equal(state, torch.random.get_rng_state())
    after = objective.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(parameter.grad is None for parameter in objective.parameters())


def test_what_looks_at_values_really_runs(batch):  # noqa: F811
    class Looking(Objective):
        def forward(self, mode="loss", **inputs):
            found = super().forward(mode=mode, **inputs)
            assert found["loss"].item() > 0
            return found

    method = build("mae")
    assert count_flops(Looking(method, seed=0), batch) == 8 * mae(method.options)
