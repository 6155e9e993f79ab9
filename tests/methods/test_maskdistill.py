"""MaskDistill against a slow rewrite of its five parts."""

import pytest
import torch

from pipeline.config import ConfigError
from pipeline.masking.blockwise import num_draws
from pipeline.nn.families.beit import STD
from tests.masking.test_blockwise import slow_mask
from tests.methods import slow
from tests.methods.conftest import build


def inputs(count=2):
    return torch.randn(count, 3, 16, 16), torch.rand(count, num_draws((4, 4)))


def slow_maskdistill(method, images, masks):
    """Loss and prediction, one image at a time."""
    state, options = method.state_dict(), method.options
    teacher = method.teacher.encoder.state_dict()
    predictions, total, count = [], 0.0, 0
    for image, mask in zip(images, masks, strict=True):
        features = slow.blocks(slow.with_class_token(slow.embedded(image, teacher, ""), teacher, ""), teacher, "", 4)
        if options.teacher_output == "normed":
            features = slow.norm(features, teacher, "norm")
        latent = slow.beit(image, state, (4, 4), 4, mask, state["mask_token"])
        prediction = slow.linear(latent, state, "head")[1:]
        predictions.append(prediction)
        for patch in mask.nonzero()[:, 0].tolist():
            target = slow.standardised(features[1 + patch])
            total += slow.smooth_l1(prediction[patch], target, options.beta)
            count += 1
    return total / count, torch.stack(predictions)


@pytest.mark.parametrize("teacher_output", ["last", "normed"])
@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_loss_and_prediction_equal_a_slow_rewrite(teacher_output, beta):
    method = slow.shake(build("maskdistill", model="beit_micro", teacher_output=teacher_output, beta=beta).eval())
    images, noise = inputs()
    masks = torch.stack([slow_mask(draws, (4, 4), 6, 2) for draws in noise])  # int(0.4 · 16)
    with torch.no_grad():
        step = method(images, noise)
        loss, prediction = slow_maskdistill(method, images, masks)
    assert torch.equal(step.mask, masks)
    assert step.loss.item() == pytest.approx(loss, rel=1e-5)
    assert torch.allclose(step.prediction, prediction, atol=1e-5)


def test_it_runs_with_absolute_positions_too():
    method = slow.shake(build("maskdistill").eval())
    images, noise = inputs()
    step = method(images, noise)
    state = method.state_dict()
    tokens = slow.embedded(images[0], state)
    positions = state["encoder.pos_embed"][0, 1:]
    for patch in step.mask[0].nonzero()[:, 0]:
        tokens[patch] = state["mask_token"][0, 0] + positions[patch]
    expected = slow.linear(slow.encoded(tokens, state, 4), state, "head")[1:]
    assert torch.allclose(step.prediction[0], expected, atol=1e-5)


def test_targets_have_no_mean_and_unit_variance():
    target = build("maskdistill", model="beit_micro")(*inputs()).target
    assert target.shape == (2, 16, 96)  # no class token
    assert target.mean(dim=2).abs().max() < 1e-3 and (target.var(dim=2) - 1).abs().max() < 1e-3


def test_visible_predictions_do_not_move_the_loss():
    method = build("maskdistill", model="beit_micro")
    step = method(*inputs())
    gradient = torch.autograd.grad(step.loss, step.prediction)[0]
    assert gradient[~step.mask].abs().max() == 0 and gradient[step.mask].abs().min() > 0


@pytest.mark.parametrize("mask_kind", ["block", "uniform"])
@pytest.mark.parametrize("mask_ratio, hidden", [(0.4, 6), (0.5, 8), (0.75, 12)])
def test_every_image_hides_the_same_number(mask_kind, mask_ratio, hidden):
    method = build("maskdistill", model="beit_micro", mask_kind=mask_kind, mask_ratio=mask_ratio)
    masks = method(*inputs(20)).mask
    assert (masks.sum(dim=1) == hidden).all() and len(masks.unique(dim=0)) > 10


def test_the_paper_hides_78_of_196():
    assert int(0.4 * 196) == 78 == build("maskdistill", model="beit_micro").options.mask_ratio * 196 // 1


def test_a_uniform_mask_hides_the_largest_draws():
    method = build("maskdistill", model="beit_micro", mask_kind="uniform")
    _, noise = inputs()
    mask = method.mask(noise)
    for draws, row in zip(noise[:, -16:], mask, strict=True):
        assert set(row.nonzero()[:, 0].tolist()) == set(range(16)) - set(slow.smallest(draws, 10))


def test_scale_and_offset_of_a_teachers_token_do_not_matter():
    method = build("maskdistill", model="beit_micro").eval()
    images, noise = inputs()
    before, plain = method(images, noise).loss, method.teacher.forward
    scale, offset = torch.rand(2, 17, 1) + 0.5, torch.randn(2, 17, 1)
    method.teacher.forward = lambda images: scale * plain(images) + offset
    assert method(images, noise).loss.item() == pytest.approx(before.item(), rel=1e-4)


def test_the_teacher_sees_the_whole_image():
    method = build("maskdistill", model="beit_micro").eval()
    images, noise = inputs(1)
    before = method(images, noise)
    row, column = divmod(int(before.mask[0].nonzero()[0]), 4)
    changed = images.clone()
    changed[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 3
    after = method(changed, noise)
    assert torch.equal(after.prediction, before.prediction) and not torch.allclose(after.target, before.target)


def test_head_and_mask_token_begin_as_the_students_weights_do():
    method = build("maskdistill", model="beit_micro")
    for weight in (method.mask_token, method.head.weight):
        assert 0.8 * STD < weight.abs().max() <= STD
    assert method.head.bias.abs().max() == 0


def test_mistakes_are_told_when_it_is_built():
    with pytest.raises(ConfigError, match="leaves 16 of 16"):
        build("maskdistill", model="beit_micro", mask_ratio=0.0)
    with pytest.raises(ConfigError, match=r"norm_target is 'batch'; available: \['none', 'layer', 'unit'\]"):
        build("maskdistill", model="beit_micro", norm_target="batch")
    with pytest.raises(ConfigError, match="loss is 'huber'; available"):
        build("maskdistill", model="beit_micro", loss="huber")
