"""MAE-ST against a slow rewrite, tubelet by tubelet, and released layouts against ours."""

import pytest
import torch

from pipeline.config import ConfigError
from pipeline.methods.mae_st import MAEST, target_frames
from tests.methods import slow
from tests.methods.conftest import build

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def slow_mae_st(method, video, noise, visible_count):
    """Loss and prediction, one clip and one tubelet at a time."""
    state, options = method.state_dict(), method.options
    steps, rows, columns = method.grid
    patches = rows * columns
    total, count, predictions = 0.0, 0, []
    for clip, draws in zip(video, noise, strict=True):
        cuts = [clip[:, 2 * t : 2 * t + 2, 4 * r : 4 * r + 4, 4 * c : 4 * c + 4]
                for t in range(steps) for r in range(rows) for c in range(columns)]  # fmt: skip
        visible = slow.smallest(draws, visible_count)
        tokens = [state["encoder.cls_token"][0, 0] + state["encoder.pos_embed_class"][0, 0]]
        for i in visible:
            token = (state["encoder.patch_embed.proj.weight"] * cuts[i]).sum((1, 2, 3, 4))
            place = (
                state["encoder.pos_embed_spatial"][0, i % patches]
                + state["encoder.pos_embed_temporal"][0, i // patches]
            )
            tokens.append(token + state["encoder.patch_embed.proj.bias"] + place)
        x = slow.blocks(torch.stack(tokens), state, "encoder.", 4)
        x = slow.linear(slow.norm(x, state, "encoder.norm"), state, "decoder.embed")
        sequence = [x[0] if options.carry_class_token else state["decoder.cls_token"][0, 0]]
        sequence += [x[1 + visible.index(i)] if i in visible else state["decoder.mask_token"][0, 0]
                     for i in range(len(cuts))]  # fmt: skip
        for i in range(1 + len(cuts)):
            if not options.separable_decoder:
                sequence[i] = sequence[i] + state["decoder.pos_embed"][0, i]
            elif i == 0:
                sequence[0] = sequence[0] + state["decoder.pos_embed_class"][0, 0]
            else:
                sequence[i] = sequence[i] + state["decoder.pos_embed_spatial"][0, (i - 1) % patches]
                sequence[i] = sequence[i] + state["decoder.pos_embed_temporal"][0, (i - 1) // patches]
        x = slow.blocks(torch.stack(sequence), state, "decoder.", options.decoder_heads)
        prediction = slow.linear(slow.norm(x, state, "decoder.norm"), state, "decoder.pred")[1:]
        predictions.append(prediction)
        for i, cut in enumerate(cuts):
            if i in visible:
                continue
            t = i // patches
            painted = {"every": [0], "all": [0, 1], "linspace": [1 if t == steps - 1 else 0]}[options.target_frames]
            target = []
            for u in painted:
                for r in range(4):
                    for c in range(4):
                        target += [(cut[ch, u, r, c] * STD[ch] + MEAN[ch] - 0.45) / 0.225 for ch in range(3)]
            target = torch.stack(target)
            target = slow.standardised(target) if options.norm_pixels else target
            total += ((prediction[i] - target) ** 2).mean()
            count += 1
    return total / count, torch.stack(predictions)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"norm_pixels": True, "target_frames": "linspace"},
        {"carry_class_token": True, "separable_decoder": False, "target_frames": "all", "decoder_depth": 2},
    ],
)
def test_loss_and_prediction_equal_a_slow_rewrite(changes):
    method = slow.shake(build("mae_st", mask_ratio=0.9, **changes).eval(), 0.05)
    video, noise = torch.randn(2, 3, 8, 16, 16), torch.rand(2, 64)
    with torch.no_grad():
        step = method(video, noise)
        loss, prediction = slow_mae_st(method, video, noise, 6)
    assert step.loss.item() == pytest.approx(loss.item(), rel=1e-5)
    assert torch.allclose(step.prediction, prediction, atol=1e-5)


def test_frames_that_are_painted():
    assert target_frames("linspace", 16, 2) == [0, 2, 4, 6, 8, 10, 12, 15]  # mae_st
    assert target_frames("every", 16, 2) == [0, 2, 4, 6, 8, 10, 12, 14]  # PySlowFast
    with pytest.raises(ConfigError, match=r"target_frames is 'first'; available: \['linspace', 'every', 'all'\]"):
        build("mae_st", target_frames="first")


@pytest.mark.parametrize("frames", ["every", "all"])
def test_pictures_paste_what_was_visible_and_undo_the_normalisation(frames):
    method = build("mae_st", norm_pixels=True, target_frames=frames).eval()
    video = torch.randn(2, 3, 8, 16, 16)
    step = method(video, torch.rand(2, 64))
    rows = method.pictures(step._replace(prediction=step.target), video)
    shown = video[:, :, method.frames]
    assert torch.equal(rows["input"], shown) and torch.allclose(rows["reconstruction"], shown, atol=1e-4)
    assert rows["masked"][0].count_nonzero() == pytest.approx((~step.mask[0]).sum() * step.target.shape[2])


def split(state):
    """Queries, keys and values apart."""
    apart = {}
    for name, value in state.items():
        if ".attn.qkv." in name:
            apart |= {name.replace("qkv", part): piece for part, piece in zip("qkv", value.chunk(3), strict=True)}
        else:
            apart[name] = value
    return apart


def unfolded(state):
    """The kernel for pixels normalised with 0.45 and 0.225: what the authors' files hold."""
    factor, offset = (STD / 0.225).view(3, 1, 1, 1), ((MEAN - 0.45) / 0.225).view(3, 1, 1, 1)
    kernel = state["encoder.patch_embed.proj.weight"] / factor
    bias = state["encoder.patch_embed.proj.bias"] - (kernel * offset).sum((1, 2, 3, 4))
    return {**state, "encoder.patch_embed.proj.weight": kernel, "encoder.patch_embed.proj.bias": bias}


def as_mae_st(name):
    name = name.removeprefix("encoder.")
    return name.replace("decoder.mask", "mask").replace("decoder.", "decoder_")


def as_pyslowfast(name):
    name = name.replace("decoder.blocks.", "pred_head.transforms.0.").replace(
        "decoder.norm", "pred_head.transforms.0.1"
    )
    return as_mae_st(name.replace("decoder.pred", "pred_head.projections.0"))


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize(("layout", "changes"), [(as_mae_st, {}),
                         (as_pyslowfast, {"carry_class_token": True, "separable_decoder": False})])  # fmt: skip
def test_released_layouts_are_read(layout, changes, apart):
    ours = slow.shake(build("mae_st", **changes)).state_dict()
    released = {layout(name): value for name, value in unfolded(ours).items()}
    assert not any("decoder." in name or "encoder." in name for name in released)
    translated = MAEST.translate(split(released) if apart else released)
    assert translated.keys() == ours.keys()
    assert all(torch.allclose(translated[name], ours[name], atol=1e-5) for name in ours)
