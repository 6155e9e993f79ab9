"""BEiT against loops over its released key layout, and its positions at other sizes."""

from unittest import mock

import pytest
import torch
from timm.models.beit import Beit

from pipeline.nn.encoders import build_encoder, load_encoder, save_encoder
from pipeline.nn.families.beit import STD, unshare_positions
from tests.methods import slow


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return slow.shake(build_encoder("beit_micro", 16)).eval().requires_grad_(False)


def test_features_equal_a_slow_rewrite(encoder):
    images = torch.randn(2, 3, 16, 16)
    features = encoder.forward_features(images)
    for image, tokens in zip(images, features, strict=True):
        expected = slow.beit(image, encoder.state_dict(), (4, 4), num_heads=4, prefix="")
        assert torch.allclose(tokens, expected, atol=1e-5)


# Width, blocks, heads, entries of the position table: 27² + 3 of 14 by 14 patches, 31² + 3 of 16 by 16.
@pytest.mark.parametrize(
    "model, width, depth, heads, entries, scale",
    [
        ("beit_base", 768, 12, 12, 732, 0.1),
        ("beit_large", 1024, 24, 16, 732, 1e-5),
        ("beit_huge", 1280, 32, 16, 964, 1e-5),
    ],
)
def test_paper_sizes_have_the_released_shapes(model, width, depth, heads, entries, scale):
    with torch.device("meta"), mock.patch("pipeline.nn.families.beit.initialise"):  # sizes only, no values
        built = build_encoder(model, 224)
    patch = 14 if model == "beit_huge" else 16
    vectors = ("gamma_1", "gamma_2", "attn.q_bias", "attn.v_bias", "attn.proj.bias", "mlp.fc2.bias")
    norms = tuple(f"{norm}.{kind}" for norm in ("norm1", "norm2") for kind in ("weight", "bias"))
    block = dict.fromkeys(vectors + norms, (width,)) | {
        "attn.qkv.weight": (3 * width, width),
        "attn.proj.weight": (width, width),
        "mlp.fc1.weight": (4 * width, width),
        "mlp.fc1.bias": (4 * width,),
        "mlp.fc2.weight": (width, 4 * width),
    }
    released = {
        "cls_token": (1, 1, width),
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,),
        "rel_pos_bias.relative_position_bias_table": (entries, heads),
        "norm.weight": (width,),
        "norm.bias": (width,),
        **{f"blocks.{index}.{name}": shape for index in range(depth) for name, shape in block.items()},
    }
    assert {name: tuple(value.shape) for name, value in built.state_dict().items()} == released
    assert {part.eps for part in built.modules() if isinstance(part, torch.nn.LayerNorm)} == {1e-6}


def test_initialisation_is_that_of_the_authors():
    torch.manual_seed(0)
    encoder = build_encoder("beit_micro", 16)
    for part in encoder.modules():
        if isinstance(part, torch.nn.Linear | torch.nn.Conv2d):
            assert part.bias is None or part.bias.abs().max() == 0
    for index, block in enumerate(encoder.blocks, start=1):
        assert 0.9 * STD < block.attn.qkv.weight.abs().max() <= STD
        shrunk = STD / (2 * index) ** 0.5
        for ending in (block.attn.proj, block.mlp.fc2):
            assert 0.9 * shrunk < ending.weight.abs().max() <= shrunk
        assert (block.gamma_1 == 0.1).all() and (block.gamma_2 == 0.1).all()
    assert encoder.rel_pos_bias.relative_position_bias_table.abs().max() == 0


def test_a_table_is_carried_to_another_grid(encoder, tmp_path):
    save_encoder(encoder, tmp_path / "encoder.safetensors")
    larger = load_encoder(tmp_path / "encoder.safetensors", image_size=(24, 32)).eval()
    assert larger.forward_features(torch.randn(1, 3, 24, 32)).shape == (1, 1 + 6 * 8, 96)
    before = encoder.rel_pos_bias.relative_position_bias_table
    after = larger.rel_pos_bias.relative_position_bias_table
    assert after.shape == (11 * 15 + 3, 4)
    assert torch.equal(after[-3:], before[-3:])  # to and from the class token nothing is interpolated
    same, images = load_encoder(tmp_path / "encoder.safetensors").eval(), torch.randn(1, 3, 16, 16)
    assert torch.equal(same.forward_features(images), encoder.forward_features(images))


def test_positions_of_their_own_leave_the_function_as_it_was(encoder):
    images = torch.randn(2, 3, 16, 16)
    before, shared = encoder.forward_features(images), encoder.rel_pos_bias.relative_position_bias_table.clone()
    unshare_positions(encoder)
    assert torch.allclose(encoder.forward_features(images), before, atol=1e-6)
    tables = [block.attn.relative_position_bias_table for block in encoder.blocks]
    assert all(table.requires_grad and torch.equal(table, shared) for table in tables)
    assert len({table.data_ptr() for table in tables}) == 4
    tables[0].data.add_(torch.randn_like(tables[0]))
    assert torch.equal(tables[1], shared) and not torch.allclose(encoder.forward_features(images), before, atol=1e-3)


def test_unshared_positions_have_the_names_of_fine_tuned_weights(encoder):
    unshare_positions(encoder)
    plain = Beit(img_size=16, patch_size=4, num_classes=0, global_pool="token", embed_dim=96, depth=4, num_heads=4,
                 init_values=0.1, use_abs_pos_emb=False, use_rel_pos_bias=True)  # fmt: skip
    assert set(encoder.state_dict()) == set(plain.state_dict())


def test_an_encoder_without_shared_positions_stays_as_it_is():
    encoder = build_encoder("vit_micro", 16)
    names = set(encoder.state_dict())
    unshare_positions(encoder)
    assert set(encoder.state_dict()) == names
