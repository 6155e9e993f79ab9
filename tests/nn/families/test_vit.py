"""A transformer run by parts computes what it computes as a whole."""

import pytest
import torch

from pipeline.nn.encoders import build_encoder
from pipeline.nn.families.vit import embed_patches, encode, encode_masked, run_blocks
from tests.methods import slow


@pytest.fixture(params=["vit_micro", "beit_micro"])
def encoder(request):
    torch.manual_seed(0)
    return slow.shake(build_encoder(request.param, 16)).eval().requires_grad_(False)


def test_with_nothing_hidden_masked_encoding_is_the_plain_forward(encoder):
    images, nothing = torch.randn(2, 3, 16, 16), torch.zeros(2, 16, dtype=torch.bool)
    masked = encode_masked(encoder, images, nothing, torch.full((1, 1, 96), torch.nan))
    assert torch.allclose(masked, encoder.forward_features(images), atol=1e-5)


def test_all_patches_encoded_are_the_plain_forward(encoder):
    images = torch.randn(2, 3, 16, 16)
    tokens = embed_patches(encoder, images)
    assert torch.allclose(encode(encoder, tokens), encoder.forward_features(images), atol=1e-5)
    assert torch.allclose(encoder.norm(run_blocks(encoder, tokens)), encoder.forward_features(images), atol=1e-5)


def test_hidden_pixels_do_not_matter_and_the_mask_token_does(encoder):
    images, mask = torch.randn(1, 3, 16, 16), torch.zeros(1, 16, dtype=torch.bool)
    mask[0, 6] = True  # row 1, column 2
    token = torch.randn(1, 1, 96)
    before = encode_masked(encoder, images, mask, token)
    changed = images.clone()
    changed[:, :, 4:8, 8:12] += 3
    assert torch.equal(encode_masked(encoder, changed, mask, token), before)
    changed[:, :, 4:8, 12:16] += 3
    assert not torch.equal(encode_masked(encoder, changed, mask, token), before)
    assert not torch.equal(encode_masked(encoder, images, mask, 2 * token), before)


def test_a_mask_token_gets_the_position_of_its_patch():
    encoder = build_encoder("vit_micro", 16).eval()
    everything, token = torch.ones(1, 16, dtype=torch.bool), torch.randn(1, 1, 96)
    expected = encode(encoder, token + encoder.pos_embed[:, 1:])
    assert torch.allclose(encode_masked(encoder, torch.randn(1, 3, 16, 16), everything, token), expected, atol=1e-6)


def test_no_blocks_leave_the_class_token_and_the_embedded_patches():
    encoder = build_encoder("vit_micro", 16).eval()
    tokens = torch.randn(2, 16, 96)
    shallow = run_blocks(encoder, tokens, depth=0)
    assert torch.equal(shallow[:, 1:], tokens)
    assert torch.equal(shallow[:, :1], encoder.cls_token.expand(2, -1, -1))  # its position is zero
