"""MAE against a slow rewrite from the paper's equations, patch by patch."""

import pytest
import torch
from torch.nn import functional as F

from pipeline.config import ConfigError
from pipeline.nn.positions import sincos_table
from tests.methods.conftest import build
from tests.methods.slow import block, layer_norm


def slow_mae(method, images, noise):
    """Loss and prediction of He et al. 2022, one image and one patch at a time."""
    state, options = method.state_dict(), method.options
    encoder = method.encoder
    p, (rows, columns) = method.patch_size, encoder.patch_embed.grid_size
    num = rows * columns
    visible_count = int(num * (1 - options.mask_ratio))
    positions = sincos_table(encoder.embed_dim, rows, columns)[0]
    decoder_positions = sincos_table(options.decoder_width, rows, columns)[0]
    predictions, total, count = [], 0.0, 0
    for image, draws in zip(images, noise, strict=True):
        cuts = [
            image[:, r * p : (r + 1) * p, c * p : (c + 1) * p] for r in range(rows) for c in range(columns)
        ]  # (3, p, p) each
        visible = sorted(range(num), key=lambda i: draws[i].item())[:visible_count]
        tokens = [state["encoder.cls_token"][0, 0] + positions[0]]
        for i in visible:
            kernel = state["encoder.patch_embed.proj.weight"]
            tokens.append((kernel * cuts[i]).sum((1, 2, 3)) + state["encoder.patch_embed.proj.bias"] + positions[1 + i])
        x = torch.stack(tokens)
        for depth in range(len(encoder.blocks)):
            x = block(x, state, f"encoder.blocks.{depth}.", encoder.blocks[0].attn.num_heads)
        x = layer_norm(x, state["encoder.norm.weight"], state["encoder.norm.bias"])
        x = x @ state["decoder.embed.weight"].T + state["decoder.embed.bias"]
        sequence = [x[0] + decoder_positions[0]]
        for i in range(num):
            token = x[1 + visible.index(i)] if i in visible else state["decoder.mask_token"][0, 0]
            sequence.append(token + decoder_positions[1 + i])
        x = torch.stack(sequence)
        for depth in range(options.decoder_depth):
            x = block(x, state, f"decoder.blocks.{depth}.", options.decoder_heads)
        x = layer_norm(x, state["decoder.norm.weight"], state["decoder.norm.bias"])
        prediction = (x @ state["decoder.pred.weight"].T + state["decoder.pred.bias"])[1:]
        predictions.append(prediction)
        for i in range(num):
            if i in visible:
                continue
            target = torch.stack([cuts[i][ch, r, c] for r in range(p) for c in range(p) for ch in range(3)])
            if options.norm_pixels:
                deviation = ((target - target.mean()) ** 2).sum() / (len(target) - 1)
                target = (target - target.mean()) / torch.sqrt(deviation + 1e-6)
            total += ((prediction[i] - target) ** 2).mean()
            count += 1
    return total / count, torch.stack(predictions)


@pytest.mark.parametrize("norm_pixels", [False, True])
@pytest.mark.parametrize("mask_ratio", [0.5, 0.75])
def test_loss_and_prediction_equal_a_slow_rewrite(norm_pixels, mask_ratio):
    method = build("mae", norm_pixels=norm_pixels, mask_ratio=mask_ratio, decoder_depth=2).eval()
    with torch.no_grad():  # away from the initial zeros of biases, whose mistakes would not show
        for parameter in method.parameters():
            if parameter.requires_grad:
                parameter += 0.02 * torch.randn_like(parameter)
    images, noise = torch.randn(2, 3, 16, 16), torch.rand(2, 16)
    with torch.no_grad():
        step = method(images, noise)
        loss, prediction = slow_mae(method, images, noise)
    assert step.loss.item() == pytest.approx(loss.item(), rel=1e-5)
    assert torch.allclose(step.prediction, prediction, atol=1e-5)


def test_visible_predictions_do_not_move_the_loss():
    method = build("mae")
    images, noise = torch.randn(2, 3, 16, 16), torch.rand(2, 16)
    step = method(images, noise)
    gradient = torch.autograd.grad(step.loss, step.prediction)[0]
    assert gradient[~step.mask].abs().max() == 0
    assert gradient[step.mask].abs().min() > 0


def test_hidden_pixels_do_not_reach_the_encoder():
    method = build("mae").eval()
    images, noise = torch.randn(1, 3, 16, 16), torch.rand(1, 16)
    step = method(images, noise)
    patch = int(step.mask[0].nonzero()[0])
    row, column = divmod(patch, 4)
    changed = images.clone()
    changed[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 5
    assert torch.equal(method(changed, noise).prediction, step.prediction)


def test_normalised_targets_have_no_mean_and_unit_unbiased_variance():
    target = build("mae", norm_pixels=True).target(torch.randn(2, 3, 16, 16) * 3 + 1)
    assert target.mean(dim=2).abs().max() < 1e-5
    assert torch.allclose(target.var(dim=2), torch.ones(2, 16), atol=1e-4)


def test_loss_is_computed_in_float32_under_autocast():
    method = build("mae")
    with torch.autocast("cpu", torch.bfloat16):
        step = method(torch.randn(2, 3, 16, 16), torch.rand(2, 16))
    assert step.prediction.dtype == torch.bfloat16
    assert step.loss.dtype == step.target.dtype == torch.float32


def test_an_impossible_ratio_is_refused_when_built():
    with pytest.raises(ConfigError, match=r"mask_ratio 0\.97 leaves 0 of 16 patches visible"):
        build("mae", mask_ratio=0.97)


def test_pictures_paste_visible_patches_and_undo_the_normalisation():
    method = build("mae", norm_pixels=True).eval()
    images = torch.randn(2, 3, 16, 16)
    step = method(images, torch.rand(2, 16))
    perfect = step._replace(prediction=step.target)
    rows = method.pictures(perfect, images)
    assert torch.allclose(rows["reconstruction"], images, atol=1e-4)
    assert torch.equal(rows["input"], images)
    hidden = F.interpolate(step.mask.reshape(2, 1, 4, 4).float(), scale_factor=4).bool().expand_as(images)
    assert rows["masked"][hidden].abs().max() == 0 and torch.equal(rows["masked"][~hidden], images[~hidden])


@pytest.mark.parametrize("kind", ["block", "grid"])
def test_other_masks_hide_the_same_share(kind):
    """The loss is that of the same mask, whoever made it."""
    method = build("mae", mask_kind=kind, mask_ratio=0.75)
    images = torch.randn(3, 3, 16, 16)
    inputs = method.inputs({"images": images}, lambda num: torch.rand(3, num))
    step = method(**inputs)
    assert (step.mask.sum(dim=1) == 12).all()
    error = (step.prediction - step.target).square().mean(dim=2)
    assert torch.allclose(step.loss, error[step.mask].mean())
    if kind == "grid":
        assert (~step.mask[0]).nonzero()[:, 0].tolist() == [0, 2, 8, 10]


def test_a_kind_of_mask_that_there_is_not():
    with pytest.raises(ConfigError, match=r"mask_kind is 'blocks'; available: \['uniform', 'block', 'grid'\]"):
        build("mae", mask_kind="blocks")
    with pytest.raises(ConfigError, match=r"mask_ratio is 0.6; grid-wise masks of 4 x 4 patches hide one of"):
        build("mae", mask_kind="grid", mask_ratio=0.6)
