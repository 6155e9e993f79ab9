"""i-MAE against a slow rewrite of its four terms, and what follows from them without any released weights."""

import pytest
import torch

from pipeline.config import ConfigError
from pipeline.methods import build_method
from tests.methods import recipe, slow
from tests.methods.conftest import Taught, build, context

TERMS = ("fainter_pixels", "stronger_pixels", "fainter_latents", "stronger_latents")


def inputs():
    return torch.randn(2, 3, 16, 16), torch.randn(2, 3, 16, 16), torch.rand(2, 16)


def slow_imae(method, images, partner, noise, weight):
    """The four terms and both predictions, one image at a time."""
    state, options = method.state_dict(), method.options
    pixels, latents, predictions = ([], []), ([], []), []
    for one, other, draws in zip(images, partner, noise, strict=True):
        mixture = weight * one + (1 - weight) * other
        visible = slow.smallest(draws, int(16 * (1 - options.mask_ratio)))
        latent = slow.encoded(slow.embedded(mixture, state)[visible], state, 4)
        pair, painted = ((one, other) if weight <= 1 - weight else (other, one)), []
        for index, source in enumerate(pair):
            own = slow.linear(latent, state, f"branches.{index}")
            prediction = slow.decoded(own, visible, 16, state, options.decoder_heads)[1:]
            painted.append(prediction)
            cuts = slow.cuts(source, 4)
            for patch in set(range(16)) - set(visible):
                pixels[index].append(((prediction[patch] - slow.pixels(cuts[patch])) ** 2).mean())
            seen = source if options.teacher_input == "source" else mixture
            taught = slow.encoded(slow.embedded(seen, state, "teacher.encoder.")[visible], state, 4, "teacher.encoder.")
            latents[index].append(((own - slow.linear(taught, state, "teacher.embed")) ** 2).mean())
        predictions.append(torch.cat(painted, dim=1))
    terms = [torch.stack(values).mean().item() for values in (*pixels, *latents)]
    return dict(zip(TERMS, terms, strict=True)), torch.stack(predictions)


@pytest.mark.parametrize("teacher_input", ["source", "mixture"])
@pytest.mark.parametrize("weight", [0.3, 0.5, 0.8])
def test_terms_and_predictions_equal_a_slow_rewrite(teacher_input, weight):
    method = slow.shake(build("imae", teacher_input=teacher_input, distill_weight=0.7).eval())
    images, partner, noise = inputs()
    with torch.no_grad():
        step = method(images, partner, noise, torch.tensor(weight))
        terms, prediction = slow_imae(method, images, partner, noise, weight)
    assert {name: value.item() for name, value in step.parts.items()} == pytest.approx(terms, rel=1e-5)
    total = terms["fainter_pixels"] + terms["stronger_pixels"]
    total += 0.7 * (terms["fainter_latents"] + terms["stronger_latents"])
    assert step.loss.item() == pytest.approx(total, rel=1e-5)
    assert torch.allclose(step.prediction, prediction, atol=1e-5)
    assert torch.allclose(step.seen, weight * images + (1 - weight) * partner, atol=1e-6)


@pytest.mark.parametrize("weight", [0.1, 0.5, 0.9])
def test_taught_by_the_mixture_it_has_nothing_to_learn_at_first(weight):
    parts = build("imae", teacher_input="mixture").eval()(*inputs(), torch.tensor(weight)).parts
    assert parts["fainter_latents"] == 0 and parts["stronger_latents"] == 0


def test_without_a_partner_in_the_blend_the_stronger_branch_is_mae():
    method, mae = build("imae", mask_ratio=0.6).eval(), Taught().whole()  # which hides as many
    images, partner, noise = inputs()
    parts = method(images, partner, noise, torch.tensor(1.0)).parts
    assert parts["stronger_latents"] == 0 and parts["fainter_latents"] > 0
    assert parts["stronger_pixels"].item() == pytest.approx(mae(images, noise).loss.item(), rel=1e-6)


@pytest.mark.parametrize("weight", [0.2, 0.7])
def test_the_order_of_a_pair_does_not_matter(weight):
    method = slow.shake(build("imae").eval())
    images, partner, noise = inputs()
    one = method(images, partner, noise, torch.tensor(weight)).parts
    other = method(partner, images, noise, torch.tensor(1 - weight)).parts
    for name in TERMS:
        assert one[name].item() == pytest.approx(other[name].item(), rel=1e-5)
    assert one["fainter_pixels"] != one["stronger_pixels"]


def test_one_branch_paints_the_fainter_image_only():
    two, one = build("imae").eval(), build("imae", num_branches=1).eval()
    images, partner, noise = inputs()
    both, single = (method(images, partner, noise, torch.tensor(0.3)) for method in (two, one))
    assert set(single.parts) == {"fainter_pixels", "fainter_latents"} and single.prediction.shape == (2, 16, 48)
    expected = both.parts["fainter_pixels"] + both.parts["fainter_latents"]
    assert single.loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_without_distillation_only_pixels_count():
    step = build("imae", distill_weight=0.0).eval()(*inputs(), torch.tensor(0.4))
    assert set(step.parts) == {"fainter_pixels", "stronger_pixels"}
    assert step.loss.item() == pytest.approx(sum(step.parts.values()).item())


def test_both_branches_begin_as_copies_of_the_teachers_and_part_with_it():
    method, teacher = build("imae"), Taught().whole()
    for branch in method.branches:
        assert torch.equal(branch.weight, teacher.decoder.embed.weight)
        assert torch.equal(branch.bias, teacher.decoder.embed.bias)
    assert len({branch.weight.data_ptr() for branch in (*method.branches, method.teacher["embed"])}) == 3
    assert all(
        torch.equal(value, teacher.encoder.state_dict()[name]) for name, value in method.encoder.state_dict().items()
    )
    fresh = build("imae", start_from_teacher=False)
    assert not torch.equal(fresh.branches[0].weight, teacher.decoder.embed.weight)
    # Branches of their own, apart from each other: Xavier's uniform weights and no bias.
    weights = [branch.weight for branch in fresh.branches]
    assert not torch.isclose(*weights).any()
    for branch in fresh.branches:
        bound = (6 / sum(branch.weight.shape)) ** 0.5
        assert 0.95 * bound < branch.weight.abs().max() <= bound and (branch.bias == 0).all()


def test_what_it_trained_to_tell_images_apart_is_shown():
    method = build("imae")
    shown = method.separation()
    assert shown.branches == tuple(method.branches) and shown.taught is method.teacher["embed"]
    alone = build_method(recipe("imae"), context())
    assert alone.separation().taught is None and build("mae").separation() is None


def test_two_branches_cost_what_the_authors_do():
    """Two maps from 768 to 512 beside MAE ViT-B's 111,907,840, less the map that they replace."""
    with torch.device("meta"):
        method = build_method(recipe("imae", "paper"), context())
    assert sum(parameter.numel() for parameter in method.parameters()) == 111_907_840 + 787_456 - 787_456 // 2


def test_gradients_reach_the_shared_decoder_from_both_branches_and_the_teacher_from_none():
    method = build("imae").train()
    assert not method.teacher["encoder"].training
    images, partner, noise = inputs()
    method(images, partner, noise, torch.tensor(0.4)).loss.backward()
    for branch in method.branches:
        assert branch.weight.grad.abs().sum() > 0
    assert method.decoder.pred.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in method.teacher.parameters())


def test_a_weight_is_drawn_for_each_image():
    batch = {"images": torch.zeros(3, 1), "partner": torch.ones(3, 1)}
    draws = torch.rand(3, 17)
    drawn = build("imae").inputs(batch, lambda num: draws[:, :num])
    assert torch.equal(drawn["weight"], draws[:, 16]) and torch.equal(drawn["noise"], draws[:, :16])
    fixed = build("imae", mix_weight=0.3).inputs(batch, lambda num: draws[:, :num])["weight"]
    assert torch.equal(fixed, torch.full((3,), 0.3))


def test_each_image_has_a_weight_of_its_own():
    method = slow.shake(build("imae").eval())
    (images, partner, noise), weights = inputs(), torch.tensor([0.3, 0.8])
    both = method(images, partner, noise, weights)
    for i in range(2):
        alone = method(images[i : i + 1], partner[i : i + 1], noise[i : i + 1], weights[i])
        assert torch.allclose(both.prediction[i], alone.prediction[0], atol=1e-5)
        assert torch.equal(both.target[i], alone.target[0]) and torch.allclose(both.seen[i], alone.seen[0])


def test_pictures_show_both_images_apart():
    method = build("imae").eval()
    images, partner, noise = inputs()
    step = method(images, partner, noise, torch.tensor(0.3))
    rows = method.pictures(step._replace(prediction=step.target), images)
    mixture = 0.3 * images + 0.7 * partner
    assert torch.allclose(rows["mixture"], mixture, atol=1e-6)
    hidden = step.mask.view(-1, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    for name, image in (("fainter", images), ("stronger", partner)):
        expected = torch.where(hidden, image, mixture)  # what was seen is pasted in
        assert torch.allclose(rows[f"{name} reconstruction"], expected, atol=1e-6)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"decoder_width": 32}, "decoder_width is 32, and the teacher's decoder has 64"),
        ({"decoder_depth": 3}, "decoder_depth is 3, and start_from_teacher takes the teacher's 1"),
    ],
)
def test_mistakes_are_told_when_it_is_built(changes, message):
    with pytest.raises(ConfigError, match=message):
        build("imae", **changes)
