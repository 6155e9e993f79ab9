from unittest import mock

import pytest
import torch

from pipeline.config import ConfigError, models
from pipeline.nn.encoders import build_encoder, load_encoder, load_image_encoder, save_encoder
from pipeline.nn.families import vit_st
from pipeline.nn.families.vit import embed_patches, encode


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return build_encoder("vit_st_micro", 16).eval()


@pytest.mark.parametrize(
    ("model", "millions"), [("vit_st_base", 86.4), ("vit_st_large", 304.1), ("vit_st_huge", 631.9)]
)
def test_paper_sizes(model, millions):
    with torch.device("meta"), mock.patch("pipeline.nn.families.vit_st.initialise"):  # sizes only, no values
        built = build_encoder(model, 224)
    assert round(sum(parameter.numel() for parameter in built.parameters()) / 1e6, 1) == millions
    assert built.patch_embed.num_patches == 1568


def test_tokens_go_by_step_row_and_column(encoder):
    video = torch.randn(1, 3, 8, 16, 16)
    changed = video.clone()
    changed[:, :, 4:6, 8:12, 12:] += 1  # step 2, row 2, column 3
    tokens, others = encoder.patch_embed(video), encoder.patch_embed(changed)
    assert (tokens != others).any(2)[0].nonzero().flatten().tolist() == [2 * 16 + 2 * 4 + 3]
    place = encoder.pos_embed_temporal[0, 2] + encoder.pos_embed_spatial[0, 11]
    assert torch.equal(encoder.pos_embed[0, 1 + 43], place)


@pytest.mark.parametrize("kind", vit_st.INITIALISATIONS)
def test_initialisations(kind):
    size = {**models()["vit_st_micro"], "initialisation": kind}
    built = vit_st.build(size, (16, 16), 0.0)
    qkv, bias = built.blocks[0].attn.qkv, 0.02 if kind == "pyslowfast" else 0.0
    assert (built.norm.bias == bias).all() and (qkv.bias == bias).all()
    limit = (6 / (2 * 96)) ** 0.5  # queries by themselves
    assert (0.98 * limit < qkv.weight.abs().max() <= limit) == (kind == "mae_st")
    assert (0.015 < qkv.weight.std() < 0.025) == (kind == "pyslowfast")
    assert 0.2 < built.pos_embed_spatial.std() < 0.4 and built.cls_token.std() < 0.03
    del size["position_std"]
    assert 0.015 < vit_st.build(size, (16, 16), 0.0).pos_embed_spatial.std() < 0.025


def test_round_trip_and_other_sizes(encoder, tmp_path):
    path = tmp_path / "encoder.safetensors"
    save_encoder(encoder, path)
    video = torch.randn(2, 3, 8, 16, 16)
    assert torch.equal(load_encoder(path).eval()(video), encoder(video))
    larger = load_encoder(path, image_size=(24, 32), num_frames=16)
    assert larger(torch.randn(1, 3, 16, 24, 32)).shape == (1, 1 + 8 * 48, 96)
    steps = larger.pos_embed_temporal[0, 1] - 0.75 * encoder.pos_embed_temporal[0, 0]
    assert torch.allclose(steps, 0.25 * encoder.pos_embed_temporal[0, 1], atol=1e-6)


def test_a_clip_that_stands_still_is_its_image(encoder):
    """Inflated, then deflated, an image encoder is what it was."""
    plain = build_encoder("vit_micro", 16).eval()
    state = vit_st.inflate(plain.state_dict(), encoder)
    encoder.load_state_dict(state)
    images = torch.randn(2, 3, 16, 16)
    still = encoder.patch_embed(images[:, :, None].expand(-1, -1, 8, -1, -1)) + encoder.pos_embed[:, 1:]
    expected = plain.patch_embed(images) + plain.pos_embed[:, 1:]
    assert torch.allclose(still, expected.repeat(1, 4, 1), atol=1e-5)
    back = vit_st.deflate(encoder.state_dict())
    assert back.keys() == plain.state_dict().keys()
    assert all(torch.allclose(back[name], value, atol=1e-6) for name, value in plain.state_dict().items())


def test_frames_that_tubelets_do_not_tile():
    with pytest.raises(ConfigError, match="num_frames is 7; expected a multiple of the tubelet, 2"):
        build_encoder("vit_st_micro", 16, num_frames=7)


@pytest.mark.parametrize("side", [16, 24])
def test_a_saved_encoder_looks_at_images_as_at_a_moment(encoder, tmp_path, side):
    """It makes of an image what it makes of any step of a still clip whose positions in time are zero."""
    encoder.pos_embed_temporal.data.zero_()
    encoder.image_size, encoder.model_name = (16, 16), "vit_st_micro"
    save_encoder(encoder, tmp_path / "encoder.safetensors")
    plain = load_image_encoder(tmp_path / "encoder.safetensors", side).eval()
    assert (plain.takes, plain.image_size, plain.model_name) == ("images", (side, side), "vit_st_micro")
    images = torch.randn(2, 3, side, side)
    if side == 16:
        tokens = embed_patches(encoder, images[:, :, None].expand(-1, -1, 8, -1, -1))[:, :16]
        assert torch.allclose(plain.forward_features(images), encode(encoder, tokens), atol=1e-5)
    assert plain.forward_features(images).shape == (2, 1 + (side // 4) ** 2, 96)
    save_encoder(image := build_encoder("vit_micro", 16).eval(), tmp_path / "image.safetensors")
    same = load_image_encoder(tmp_path / "image.safetensors").eval()
    assert torch.equal(same.forward_features(images[..., :16, :16]), image.forward_features(images[..., :16, :16]))
