"""What a teacher is asked for, how it is normalised, and distances to it, value by value."""

import math

import pytest
import torch

from pipeline.nn.encoders import build_encoder
from pipeline.nn.families import clip
from pipeline.nn.targets import TeacherFeatures, distance, normalise
from tests.methods import slow

CLIP_SIZE = {"patch_size": 4, "width": 32, "num_blocks": 2, "num_heads": 4, "projection": 24}


def teacher(model="vit_micro", size=16):
    torch.manual_seed(0)
    return slow.shake(build_encoder(model, size)).eval().requires_grad_(False)


def clip_teacher(size=16):
    torch.manual_seed(0)
    encoder = slow.shake(clip.build(CLIP_SIZE, (size, size), 0.0)).eval().requires_grad_(False)
    encoder.model_name, encoder.image_size = "clip_micro", (size, size)
    return encoder


def test_outputs_stop_where_they_say():
    encoder, images = teacher(), torch.randn(2, 3, 16, 16)
    last = TeacherFeatures(encoder, "last", None)(images)
    state = encoder.state_dict()
    for tokens, image in zip(last, images, strict=True):
        x = slow.with_class_token(slow.embedded(image, state, ""), state, "")
        assert torch.allclose(tokens, slow.blocks(x, state, "", 4), atol=1e-5)
    normed = TeacherFeatures(encoder, "normed", None)(images)
    assert torch.allclose(normed, slow.norm(last, state, "norm"), atol=1e-5)
    assert torch.allclose(normed, encoder.forward_features(images), atol=1e-5)


def test_projected_tokens_are_those_that_clip_compares_with_text():
    encoder, images = clip_teacher(), torch.randn(2, 3, 16, 16)
    features = TeacherFeatures(encoder, "projected", None)
    assert features.width == 24
    assert torch.allclose(features(images)[:, 0], encoder(images), atol=1e-5)  # of the class token
    assert features(images).shape == (2, 17, 24)


def test_some_depth_uses_the_first_blocks():
    encoder, images = teacher(), torch.randn(2, 3, 16, 16)
    features = TeacherFeatures(encoder, "last", 2)
    before = features(images)
    for block in encoder.blocks[2:]:
        block.mlp.fc2.weight.data.fill_(math.nan)
    assert torch.equal(features(images), before) and before.isfinite().all()


def test_images_are_resized_to_the_teachers_own_size():
    encoder, images = teacher(size=32), torch.randn(2, 3, 16, 16)
    resized = torch.nn.functional.interpolate(images, (32, 32), mode="bicubic", antialias=True)
    features = TeacherFeatures(encoder, "last", None)
    assert torch.equal(features(images), features(resized)) and features(images).shape == (2, 65, 96)


@pytest.mark.parametrize(
    "output, depth, message",
    [
        ("first", None, r"teacher_output is 'first'; available: \['last', 'normed', 'projected'\]"),
        ("projected", None, "teacher_output is 'projected', which vit_micro lacks"),
        ("last", 5, "teacher_depth is 5; expected 0 to 4 blocks"),
        ("last", -1, "teacher_depth is -1"),
    ],
)
def test_what_a_teacher_cannot_give_is_refused(output, depth, message):
    with pytest.raises(ValueError, match=message):
        TeacherFeatures(teacher(), output, depth)


def test_layer_normalisation_has_no_affine_part_and_the_unbiased_variance():
    features = 5 * torch.randn(2, 3, 12) + 3
    normal = normalise(features, "layer")
    for row, token in zip(normal.flatten(0, 1), features.flatten(0, 1), strict=True):
        assert torch.allclose(row, slow.standardised(token), atol=1e-5)
    assert normal.mean(dim=2).abs().max() < 1e-5 and (normal.var(dim=2) - 1).abs().max() < 1e-3


def test_layer_normalisation_forgets_scale_and_offset_of_each_token():
    features = torch.randn(2, 3, 12)
    scale, offset = torch.rand(2, 3, 1) + 0.5, torch.randn(2, 3, 1)
    assert torch.allclose(normalise(scale * features + offset, "layer"), normalise(features, "layer"), atol=1e-4)


def test_other_normalisations():
    features = torch.randn(2, 3, 12)
    assert torch.equal(normalise(features, "none"), features)
    assert torch.allclose(normalise(features, "unit"), features / features.norm(dim=2, keepdim=True))
    with pytest.raises(ValueError, match="the target's normalisation is 'batch'"):
        normalise(features, "batch")


def test_smooth_l1_turns_linear_at_beta():
    d = torch.tensor([0.0, 1.0, 2.0, 3.0, -4.0], requires_grad=True)
    errors = distance(d[:, None], torch.zeros(5, 1), "smooth_l1", 2.0)
    assert errors.tolist() == pytest.approx([0, 0.25, 1.0, 2.0, 3.0])
    errors.sum().backward()
    assert d.grad.tolist() == pytest.approx([0, 0.5, 1, 1, -1])


@pytest.mark.parametrize("kind", ["smooth_l1", "l1", "l2", "cosine"])
def test_distances_equal_loops(kind):
    prediction, target = 2 * torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    errors = distance(prediction, target, kind, 1.5)
    for error, p, t in zip(errors.flatten(), prediction.flatten(0, 1), target.flatten(0, 1), strict=True):
        differences = [a - b for a, b in zip(p.tolist(), t.tolist(), strict=True)]
        expected = {
            "smooth_l1": slow.smooth_l1(p, t, 1.5),
            "l1": sum(abs(d) for d in differences) / 5,
            "l2": sum(d * d for d in differences) / 5,
            "cosine": 1
            - sum(a * b for a, b in zip(p.tolist(), t.tolist(), strict=True)) / (p.norm() * t.norm()).item(),
        }[kind]
        assert error.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_distances_are_computed_in_float32():
    prediction = torch.randn(1, 2, 4).bfloat16()
    assert distance(prediction, torch.zeros(1, 2, 4), "l2", 1.0).dtype == torch.float32
    with pytest.raises(ValueError, match="loss is 'huber'; available"):
        distance(prediction, torch.zeros(1, 2, 4), "huber", 1.0)
