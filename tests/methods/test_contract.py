"""What every file in pipeline/methods passes by being there."""

from functools import partial

import pytest
import torch

from pipeline.config import available_methods, recipe_head
from pipeline.data.kinds import load_kind
from pipeline.engine.objective import Objective
from pipeline.engine.phases import run_phases
from pipeline.methods import load_method
from pipeline.methods.base import Method
from tests.methods import recipe
from tests.methods.conftest import build


def class_of(name):
    """The method of a recipe."""
    return load_method(recipe(name)["method"])


@pytest.fixture(params=[name for name in available_methods() if class_of(name).trains])
def trained(request):
    """The name of a recipe that trains, unlike the `random` baseline."""
    return request.param


@pytest.fixture
def batch(trained):
    """A batch of the method's kind of sample."""
    return load_kind(recipe_head(trained).kind).example(recipe(trained), 8)


@pytest.fixture
def objective(trained):
    """The method in its first phase."""
    method = build(trained)
    phase = next(phases_of(trained, method))
    if phase.begin is not None:
        phase.begin()
    return Objective(method, seed=0)


class Examples(torch.utils.data.Dataset):
    """Eight samples of noise, for hooks that look at samples."""

    def __init__(self, name, settings):
        self.batch = load_kind(recipe_head(name).kind).example(settings, 8)
        self.labels = self.batch.get("labels")

    def __len__(self):
        return 8

    def __getitems__(self, samples):
        indices = torch.tensor([index for _, index in samples])
        return {key: value[indices] for key, value in self.batch.items()}


def phases_of(name, method, most=3):
    """Its phases, of many the first ones."""
    phases, result = method.phases(recipe(name), partial(Examples, name)), None
    for _ in range(most):
        try:
            result = yield phases.send(result)
        except StopIteration:
            return


def shown(objective, batch):
    """What of a batch the method's encoder takes."""
    return batch[objective.method.encoder.takes]


def gradients(objective, batch):
    objective.zero_grad()
    torch.manual_seed(3)
    objective(**batch, mode="loss")["loss"].backward()
    return {name: parameter.grad for name, parameter in objective.method.named_parameters()}


@pytest.mark.parametrize("name", available_methods())
def test_the_module_defines_one_method_and_says_what_it_is(name):
    kind = class_of(name)
    module = __import__(kind.__module__, fromlist=["_"])
    assert issubclass(kind, Method) and kind is not Method
    assert module.__doc__ and len(module.__doc__.splitlines()[0]) < 120


@pytest.mark.parametrize("name", available_methods())
def test_options_are_exactly_the_recipe_s(name):
    fields = set(class_of(name).Options.__dataclass_fields__)
    for scale in ("demo", "paper"):
        assert set(recipe(name, scale)["options"]) == fields


def test_loss_is_a_finite_number(objective, batch):
    loss = objective(**batch, mode="loss")["loss"]
    assert loss.shape == () and torch.isfinite(loss)


def test_under_autocast_the_loss_is_still_float32_and_nearly_the_same(objective, batch):
    torch.manual_seed(3)
    exact = objective(**batch, mode="loss")["loss"]
    torch.manual_seed(3)
    with torch.autocast("cpu", torch.bfloat16):
        loss = objective(**batch, mode="loss")["loss"]
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(exact.item(), rel=0.02)


def test_each_trainable_parameter_gets_a_gradient_and_no_other(trained, tmp_path):
    """In every phase, between hooks that return what JSON can say."""
    method, seen = build(trained), []

    def train(phase, *, work, seed, steps_before):
        seen.append(phase.name)
        batch = load_kind(recipe_head(trained).kind).example(phase.settings, 8)
        for name, gradient in gradients(Objective(method, seed), batch).items():
            if method.get_parameter(name).requires_grad:
                assert gradient is not None and gradient.abs().sum() > 0, name
            else:
                assert gradient is None, name
        return {"seconds": 0.0, "steps": 1}

    run_phases(method, phases_of(trained, method), train, work=tmp_path, seed=0)
    assert seen == [""] or all(seen), "a phase has a name unless it is the only one"


def test_randomness_is_a_function_of_the_sample(objective, batch):
    torch.manual_seed(1)
    first = objective(**batch, mode="loss")["loss"]
    torch.manual_seed(1)
    assert torch.equal(first, objective(**batch, mode="loss")["loss"])
    draws = []
    objective.method.inputs(batch, lambda num: draws.append(num) or torch.rand(8, num))
    later = objective(**{**batch, "epoch": batch["epoch"] + 1}, mode="tensor")
    if later.mask is not None and draws:
        assert not torch.equal(later.mask, objective(**batch, mode="tensor").mask)


def test_masked_steps_have_the_shapes_they_promise(objective, batch):
    step = objective(**batch, mode="tensor")
    if step.mask is None:
        assert step.prediction is None and step.target is None
        return
    assert step.parts.keys().isdisjoint({"loss"})
    patches = objective.method.encoder.patch_embed.num_patches
    assert step.mask.dtype == torch.bool and step.mask.shape == (8, patches)
    assert 0 < step.mask.sum() < step.mask.numel()
    assert step.prediction.shape == step.target.shape
    assert step.prediction.shape[:2] == (8, patches)
    assert not step.target.requires_grad


def test_features_ignore_masking(objective, batch):
    """The exported encoder sees whole images and is the same function whatever was hidden before."""
    encoder = objective.method.exported().eval()
    with torch.no_grad():
        before = encoder.forward_features(shown(objective, batch))
        objective(**batch, mode="loss")
        assert torch.equal(before, encoder.forward_features(shown(objective, batch)))


def test_state_round_trips(trained, objective):
    for parameter in objective.method.parameters():
        parameter.data += 0.01
    other = build(trained)
    other.load_state_dict(objective.method.state_dict())
    for key, value in objective.method.state_dict().items():
        assert torch.equal(value, other.state_dict()[key])


def test_forty_steps_on_one_batch_lower_the_loss(objective, batch):
    """What is remembered of earlier batches is put back: a queue full of this batch's own keys has no negatives."""
    optimizer = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], lr=1e-3)
    remembered = {name: value.clone() for name, value in objective.named_buffers()}
    losses = []
    for _ in range(40):
        torch.manual_seed(0)
        loss = objective(**batch, mode="loss")["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        objective.after_step()
        objective.load_state_dict(remembered, strict=False)
        losses.append(loss.item())
    assert losses[-1] < 0.85 * losses[0]


def test_pictures_are_images(objective, batch):
    images = shown(objective, batch)
    rows = objective.method.pictures(objective(**batch, mode="tensor"), images)
    for row in rows.values():
        # Of a clip, some frames.
        assert row.shape[:2] == images.shape[:2] and row.shape[-2:] == images.shape[-2:] and row.ndim == images.ndim
        assert torch.isfinite(row).all()
