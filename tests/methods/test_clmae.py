"""CL-MAE against a slow rewrite of its two passes, and the numbers its terms must have."""

import math

import pytest
import torch

from pipeline.masking.uniform import uniform_mask
from pipeline.methods import build_method
from tests.methods import recipe, slow
from tests.methods.conftest import build, context


def slow_module(state, tokens, num_heads=4):
    """(L,) probabilities of one image; the class token comes first and has no position."""
    x = torch.cat([state["module.cls_token"][0], tokens])
    x = slow.blocks(x, state, "module.", num_heads, eps=1e-5)[0]
    x = slow.layer_norm(x, state["module.norm.weight"], state["module.norm.bias"], 1e-5)
    return torch.sigmoid(slow.linear(x, state, "module.head"))


def slow_clmae(method, images):
    """Terms of both passes and the prediction of the first, one image at a time."""
    state, options = method.state_dict(), method.options
    keep = 1 - options.mask_ratio
    hard, soft, weights, gauss, divergence, predictions, masks = [], [], [], [], [], [], []
    for image in images:
        tokens = slow.embedded(image, state)
        m = slow_module(state, tokens)
        masks.append(m)
        order = sorted(range(16), key=lambda i: -m[i].item())
        visible = order[: int(16 * keep)]
        targets = [slow.pixels(cut) for cut in slow.cuts(image, 4)]
        if options.norm_pixels:
            targets = [slow.standardised(target) for target in targets]
        x = slow.linear(slow.encoded(tokens[visible], state, 4), state, "decoder.embed")
        prediction = slow.decoded(x, visible, 16, state, options.decoder_heads)[1:]
        predictions.append(prediction)
        hard += [((prediction[i] - targets[i]) ** 2).mean().item() for i in range(16) if i not in visible]
        scaled = torch.stack([m[i] * tokens[i] for i in order])
        x = slow.linear(slow.encoded(scaled, state, 4), state, "decoder.embed")
        painted = slow.decoded(x, order, 16, state, options.decoder_heads)[1:]
        for i in range(16):
            weights.append(1 - m[i].item())
            soft.append((1 - m[i].item()) * ((painted[i] - targets[i]) ** 2).mean().item())
            normaliser = 1 / (options.gauss_deviation * math.sqrt(2 * math.pi))
            gauss.append(math.exp(-((m[i].item() - 0.5) ** 2) / (2 * options.gauss_deviation**2)) / normaliser)
        q = m.mean().item()
        divergence.append(q * math.log(q / keep) + (1 - q) * math.log((1 - q) / (1 - keep)))
    pairs = [math.exp(-options.diversity_scale * (a - b).norm().item()) for i, a in enumerate(masks) for b in masks[:i]]
    terms = {
        "pixels": sum(hard) / len(hard),
        "soft_pixels": sum(soft) / sum(weights),
        "gauss": sum(gauss) / len(gauss),
        "divergence": sum(divergence) / len(divergence),
        "diversity": sum(pairs) / len(pairs),
    }
    return terms, torch.stack(predictions)


@pytest.mark.parametrize("norm_pixels", [False, True])
@pytest.mark.parametrize("mask_ratio, step", [(0.75, 0), (0.5, 30)])
def test_terms_and_prediction_equal_a_slow_rewrite(norm_pixels, mask_ratio, step):
    method = slow.shake(build("clmae", norm_pixels=norm_pixels, mask_ratio=mask_ratio, kl_weight=3.0).eval(), 0.05)
    method.step.fill_(step)
    images = torch.randn(3, 3, 16, 16)
    with torch.no_grad():
        got = method(images)
        terms, prediction = slow_clmae(method, images)
    parts = {name: value.item() for name, value in got.parts.items()}
    factor = parts.pop("curriculum")
    assert parts == pytest.approx(terms, rel=1e-5)
    assert torch.allclose(got.prediction, prediction, atol=1e-5)
    assert factor == (1.0 if step == 0 else pytest.approx(1 - 2 * 76 / 100))  # level 75 of 100, past the middle
    total = terms["pixels"] + factor * terms["soft_pixels"] + terms["gauss"]
    total += 3.0 * terms["divergence"] + 2.0 * terms["diversity"]
    assert got.loss.item() == pytest.approx(total, rel=1e-5)


def terms_of(visible, **changes):
    """The module's terms for given probabilities of every patch: (B, 16)."""
    method = build("clmae", **changes)
    masking, nothing = uniform_mask(torch.rand(visible.shape), 0.75), torch.zeros(len(visible), 16, 48)
    return method.module_terms(torch.zeros(len(visible), 16, 96), visible, masking, nothing)


@pytest.mark.parametrize("m, expected", [(0.5, 0.3008), (0.4, 0.2126), (0.3, 0.0750), (0.25, 0.0343), (0.0, 0.00005)])
def test_probabilities_are_pushed_away_from_one_half(m, expected):
    assert terms_of(torch.full((2, 16), m))["gauss"].item() == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize("q, expected", [(0.5, 0.14384), (0.3, 0.00640), (0.25, 0.0), (0.2, 0.00700)])
def test_divergence_from_the_share_that_stays_visible(q, expected):
    visible = torch.full((3, 16), q) + torch.tensor([0.05, -0.05]).repeat(8)  # only the mean of an image counts
    assert terms_of(visible, mask_ratio=0.75)["divergence"].item() == pytest.approx(expected, abs=5e-6)


def test_divergence_is_finite_where_a_mean_is_all_or_nothing():
    for m in (0.0, 1.0):
        visible = torch.full((1, 16), m)
        assert terms_of(visible)["divergence"].isfinite()


def test_divergence_expects_the_share_of_its_own_ratio():
    assert terms_of(torch.full((1, 16), 0.5), mask_ratio=0.5)["divergence"].item() == pytest.approx(0, abs=1e-6)


def test_masks_of_a_batch_are_kept_apart():
    visible = torch.zeros(2, 16)
    visible[0, :4] = 1
    visible[1] = visible[0]
    assert terms_of(visible)["diversity"] == 1
    visible[1] = visible[0].roll(4)
    assert terms_of(visible)["diversity"].item() == pytest.approx(math.exp(-0.1 * math.sqrt(8)))
    assert terms_of(visible[:1])["diversity"] == 0


@pytest.mark.parametrize(
    "levels, factors", [(10, [1, 0.8, 0.6, 0.4, 0.2, -0.2, -0.4, -0.6, -0.8, -1]), (5, [1, 0.6, 0.2, -0.6, -1])]
)
def test_the_curriculum_leaves_out_the_middle(levels, factors):
    method = build("clmae", num_levels=levels)  # forty steps
    found = []
    for _ in range(40):
        found.append(method.curriculum_factor().item())
        method.after_step()
    assert found == pytest.approx([factor for factor in factors for _ in range(40 // levels)])
    assert method.curriculum_factor() == -1  # past the end, where pictures are drawn


def test_levels_are_the_epochs_where_none_are_stated():
    method = build_method(clmae_recipe(num_levels=None), context(num_steps=40, num_epochs=10))
    stated = build_method(clmae_recipe(num_levels=10), context(num_steps=40, num_epochs=3))
    assert recipe("clmae", "paper")["options"]["num_levels"] is None
    for _ in range(40):
        assert method.curriculum_factor() == stated.curriculum_factor()
        method.after_step(), stated.after_step()
    assert method.num_levels == 10


def clmae_recipe(**changes):
    settings = recipe("clmae")
    return {**settings, "options": settings["options"] | changes}


def gradients(method, loss):
    method.zero_grad()
    loss.backward()
    return {
        name: None if p.grad is None else p.grad.clone() for name, p in method.named_parameters() if p.requires_grad
    }


def test_the_autoencoders_loss_does_not_reach_the_module():
    nothing = dict.fromkeys(
        ("gauss_weight", "kl_weight", "diversity_weight", "curriculum_start", "curriculum_end"), 0.0
    )
    images = torch.randn(3, 3, 16, 16)
    alone, both = build("clmae", **nothing), build("clmae")
    first, second = (gradients(method, method(images).loss) for method in (alone, both))
    for name, gradient in first.items():
        if name.startswith("module."):
            assert gradient.abs().max() == 0 and second[name].abs().max() > 0, name
        else:  # and what the module is trained by reaches nothing else
            assert gradient.abs().max() > 0 and torch.equal(gradient, second[name]), name


def test_the_modules_terms_reach_nothing_but_the_module():
    method, images = build("clmae"), torch.randn(3, 3, 16, 16)
    tokens = method.encoder.patch_embed(images).detach()
    visible = method.module(tokens)
    masking = uniform_mask(-visible.detach(), 0.6)
    found = gradients(method, sum(method.module_terms(tokens, visible, masking, method.target(images)).values()))
    for name, gradient in found.items():
        assert (gradient is not None and gradient.abs().max() > 0) == name.startswith("module."), name
    assert all(p.requires_grad for name, p in method.named_parameters() if not name.endswith("pos_embed"))


def test_the_module_learns_through_the_tokens_and_through_the_weights():
    """Where every patch is equally wrong only the tokens carry the gradient, so the two differ."""
    method, images = build("clmae").eval(), torch.randn(2, 3, 16, 16)
    tokens = torch.randn(2, 16, 96)
    visible = torch.rand(2, 16, requires_grad=True)
    masking = uniform_mask(-visible.detach(), 0.6)
    (full,) = torch.autograd.grad(
        method.module_terms(tokens, visible, masking, method.target(images))["soft_pixels"], visible
    )
    blind = method.module_terms(0 * tokens, visible, masking, method.target(images))["soft_pixels"]
    (weights,) = torch.autograd.grad(blind, visible)
    assert weights.abs().max() > 0 and not torch.allclose(full, weights, rtol=0.1)


def test_with_noise_for_the_module_the_first_pass_is_mae():
    method, mae = build("clmae").eval(), build("mae").eval()
    mae.load_state_dict({name: value for name, value in method.state_dict().items() if name in mae.state_dict()})
    images, noise = torch.randn(2, 3, 16, 16), torch.rand(2, 16)
    method.module.forward = lambda tokens: 1 - noise
    step, expected = method(images), mae(images, noise)
    assert torch.equal(step.mask, expected.mask)
    assert step.parts["pixels"].item() == pytest.approx(expected.loss.item(), rel=1e-6)


def test_fully_visible_the_second_pass_sees_the_whole_image():
    method, images = build("clmae").eval(), torch.randn(2, 3, 16, 16)
    seen = []
    method.encoder.blocks[0].register_forward_pre_hook(lambda block, inputs: seen.append(inputs[0]))
    visible = torch.ones(2, 16)
    method.module.forward = lambda tokens: visible
    step = method(images)
    assert seen[1].shape == (2, 17, 96)  # no token is dropped
    tokens = method.encoder._pos_embed(method.encoder.patch_embed(images))
    assert torch.allclose(seen[1].sum(dim=1), tokens.sum(dim=1), atol=1e-4)
    assert step.parts["soft_pixels"].isnan()  # nothing is hidden: nothing to take a mean of


def test_probabilities_that_are_all_but_zero_keep_their_order():
    """In float32 one less a millionth of a millionth is one; the patches it concerns are still ranked."""
    method = build("clmae", mask_ratio=0.5)
    visible = 1e-12 * (1 + torch.randperm(16)).float()[None]
    method.module.forward = lambda tokens: visible
    assert torch.equal(method(torch.randn(1, 3, 16, 16)).mask, visible < visible.median() + 5e-13)


def test_the_module_is_as_large_as_the_authors():
    """35.59 M trainable parameters for ViT-B at 224 pixels, 36.04 M with patches of 8."""
    from pipeline.methods.clmae import MaskingModule

    for patches, millions in ((196, 35.59), (784, 36.04)):
        with torch.device("meta"):
            module = MaskingModule(768, patches, depth=5, num_heads=4)
        assert sum(p.numel() for p in module.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)
    assert module.norm.eps == module.blocks[0].norm1.eps == 1e-5


def test_probabilities_scatter_about_one_half_at_first():
    visible = build("clmae").module(torch.randn(4, 16, 96))
    assert visible.dtype == torch.float32 and 0.3 < visible.mean() < 0.7
