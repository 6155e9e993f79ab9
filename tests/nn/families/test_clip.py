"""CLIP with its pixel statistics folded in against timm's own, on a picture normalised either way."""

from unittest import mock

import pytest
import timm
import torch

from pipeline.nn.encoders import build_encoder, load_encoder, save_encoder
from pipeline.nn.families import clip
from tests.methods import slow

SIZE = {"patch_size": 4, "width": 32, "num_blocks": 2, "num_heads": 4, "projection": 24}


def normalised(pixels, statistics):
    mean, std = (torch.tensor(values)[:, None, None] for values in statistics)
    return (pixels - mean) / std


@pytest.fixture
def original():
    """timm's `vit_base_patch16_clip_quickgelu_224`, made small."""
    torch.manual_seed(0)
    small = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 4, "num_classes": 24}
    model = timm.create_model("vit_base_patch16_clip_quickgelu_224", pretrained=False, **small)
    slow.shake(model, 0.2).head.bias.data.zero_()  # as timm converts the released file, where there is none
    return model.eval().requires_grad_(False)


def folded(original):
    encoder = clip.build(SIZE, (16, 16), 0.0).eval().requires_grad_(False)
    state = {name: value for name, value in original.state_dict().items() if name != "head.bias"}
    kernel, bias = clip.fold_statistics(state["patch_embed.proj.weight"], state.get("patch_embed.proj.bias"))
    encoder.load_state_dict({**state, "patch_embed.proj.weight": kernel, "patch_embed.proj.bias": bias})
    return encoder


def test_the_same_picture_gives_the_same_features(original):
    pixels = torch.rand(2, 3, 16, 16)
    encoder = folded(original)
    ours, theirs = normalised(pixels, clip.IMAGENET), normalised(pixels, clip.CLIP)
    assert torch.allclose(encoder.forward_features(ours), original.forward_features(theirs), atol=1e-5)
    assert torch.allclose(encoder(ours), original(theirs), atol=1e-5)
    assert not torch.allclose(original(ours), original(theirs), atol=1e-2)  # the mismatch would show


def test_a_bias_is_kept_when_statistics_are_folded(original):
    pixels = torch.rand(1, 3, 4, 4)
    kernel, bias = torch.randn(8, 3, 4, 4), torch.randn(8)
    new_kernel, new_bias = clip.fold_statistics(kernel, bias)
    expected = (kernel * normalised(pixels, clip.CLIP)).sum((1, 2, 3)) + bias
    assert torch.allclose(
        (new_kernel * normalised(pixels, clip.IMAGENET)).sum((1, 2, 3)) + new_bias, expected, atol=1e-4
    )


def test_statistics_are_those_that_were_published():
    assert clip.CLIP == (timm.data.OPENAI_CLIP_MEAN, timm.data.OPENAI_CLIP_STD)
    assert clip.IMAGENET == (timm.data.IMAGENET_DEFAULT_MEAN, timm.data.IMAGENET_DEFAULT_STD)


@pytest.mark.parametrize(
    "model, original, projection",
    [
        ("clip_base", "vit_base_patch16_clip_quickgelu_224", 512),
        ("clip_large", "vit_large_patch14_clip_quickgelu_224", 768),
    ],
)
def test_paper_sizes_are_those_of_the_released_towers(model, original, projection):
    with torch.device("meta"):
        built = build_encoder(model, 224)
        theirs = timm.create_model(original, pretrained=False, num_classes=projection)
    shapes = [{name: tuple(value.shape) for name, value in part.state_dict().items()} for part in (built, theirs)]
    assert shapes[0].pop("patch_embed.proj.bias") == (built.embed_dim,)  # of the statistics
    shapes[1].pop("head.bias")
    assert shapes[0] == shapes[1]


def test_a_tower_is_carried_to_another_grid(tmp_path):
    with mock.patch("pipeline.nn.encoders.models", lambda: {"clip_micro": {"family": "clip", **SIZE}}):
        encoder = build_encoder("clip_micro", 16)
        save_encoder(encoder, tmp_path / "encoder.safetensors")
        larger = load_encoder(tmp_path / "encoder.safetensors", image_size=28)
    assert larger.forward_features(torch.randn(1, 3, 28, 28)).shape == (1, 50, 32)
    assert torch.equal(larger.pos_embed[:, 0], encoder.pos_embed[:, 0])
