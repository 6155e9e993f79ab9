from unittest import mock

import pytest
import torch

from pipeline.nn.encoders import build_encoder, load_encoder, save_encoder
from pipeline.nn.families.vit_joint import attend, sincos_line


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return build_encoder("vit_joint_micro", 16).eval()


@pytest.mark.parametrize(("model", "millions"), [("small", 21.6), ("base", 85.6), ("large", 303.1), ("huge", 630.7)])
def test_paper_sizes(model, millions):
    """The image-only part of the released sizes; fixed positions are not counted."""
    with torch.device("meta"), mock.patch("pipeline.nn.families.vit_joint.initialise"):  # sizes only, no values
        built = build_encoder(f"vit_joint_{model}", 256)
    trained = sum(parameter.numel() for parameter in built.parameters() if parameter.requires_grad)
    assert round(trained / 1e6, 1) == millions


def test_images_alone_are_what_the_joint_pass_makes_of_them(encoder):
    """In float64: in float32 kernels sum in an order of their own, and by processor that is more than the bound."""
    images, encoder = torch.randn(2, 3, 16, 16, dtype=torch.float64), encoder.double()
    tokens = encoder.patch_embed(images) + encoder.pos_embed_image + encoder.pos_embed_type
    with torch.no_grad():
        assert torch.allclose(encoder.forward_features(images), encoder.encode_joint(tokens, None), atol=1e-10)


def test_padded_tokens_are_seen_by_none(encoder):
    tokens = torch.randn(2, 9, 96)
    padding = torch.zeros(2, 9, dtype=torch.bool)
    padding[0, 5:] = True
    with torch.no_grad():
        masked = encoder.encode_joint(tokens, padding)
        short = encoder.norm(attend(encoder.blocks, torch.cat([encoder.cls_token, tokens[:1, :5]], dim=1), None))
        whole = encoder.encode_joint(tokens, None)
    assert torch.allclose(masked[0, :6], short[0], atol=1e-5) and torch.allclose(masked[1], whole[1], atol=1e-5)
    assert not torch.allclose(masked[0, :6], whole[0, :6], atol=1e-3)


def test_positions_of_a_text():
    table = sincos_line(8, 5)
    assert table.shape == (1, 5, 8)
    assert torch.allclose(table[0, 3, :4], torch.sin(3 * 10000 ** (-torch.arange(4) / 4)), atol=1e-6)
    assert torch.allclose(table[0, 3, 4:], torch.cos(3 * 10000 ** (-torch.arange(4) / 4)), atol=1e-6)


def test_a_saved_encoder_is_read_for_larger_images(encoder, tmp_path):
    save_encoder(encoder, tmp_path / "encoder.safetensors")
    images = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        again = load_encoder(tmp_path / "encoder.safetensors").eval()
        assert torch.equal(again.forward_features(images), encoder.forward_features(images))
        assert load_encoder(tmp_path / "encoder.safetensors", 32).forward_features(torch.randn(1, 3, 32, 32)).shape == (
            1,
            65,
            96,
        )
