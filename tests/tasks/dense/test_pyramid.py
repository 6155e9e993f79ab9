from dataclasses import replace

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from pipeline.config import ConfigError
from pipeline.engine.optim import param_groups
from pipeline.nn.encoders import build_encoder
from pipeline.tasks.dense.backbone import MapViT, ViTOptions
from pipeline.tasks.dense.pyramid import Pyramid, PyramidOptions, pyramid

PLAIN = ViTOptions(
    patch_size=None, window_size=None, global_blocks=(), relative="none", class_token=False, layer_scale=None
)
VITDET = PyramidOptions(scales=(4, 2, 1, 0.5), taps=None, channels=12, extra_levels=1)
BEIT = PyramidOptions(scales=(4, 2, 1, 0.5), taps=(0, 1, 2, 3), channels=None, extra_levels=0)


def encoder(patch_size: int = 16, side: int = 4) -> VisionTransformer:
    torch.manual_seed(0)
    vit = VisionTransformer(
        img_size=patch_size * side, patch_size=patch_size, embed_dim=32, depth=4, num_heads=2, num_classes=0
    )
    return vit.eval()


def detection(vit: VisionTransformer, options: ViTOptions = PLAIN, levels: PyramidOptions = VITDET) -> Pyramid:
    return pyramid(vit, options, levels, image_size=96, shrink=True)


@pytest.mark.parametrize("patch_size", [16, 14, 4])
@pytest.mark.parametrize("size", [(64, 64), (96, 80), (70, 84)])
def test_maps_have_the_strides_they_say(patch_size: int, size: tuple[int, int]) -> None:
    levels = replace(VITDET, scales=(2, 1, 0.5))
    module = detection(encoder(patch_size), levels=levels).eval()
    assert module.strides == [patch_size // 2, patch_size, 2 * patch_size, 4 * patch_size]
    assert module.channels == [12] * 4
    grid = [-(-side // patch_size) for side in size]
    maps = module(torch.randn(1, 3, *size))
    halved = [side // 2 for side in grid]
    expected = [[2 * side for side in grid], grid, halved, [(side + 1) // 2 for side in halved]]
    assert [list(level.shape[2:]) for level in maps] == expected
    assert all(level.shape[1] == 12 for level in maps)


def test_vitdet_of_the_paper_has_strides_4_to_64() -> None:
    module = detection(encoder(16))
    assert module.strides == [4, 8, 16, 32, 64]
    widths = [part[0].in_channels for part in module.project]
    assert widths == [8, 16, 32, 32]  # a quarter, a half, the whole width
    maps = module(torch.randn(1, 3, 64, 64))
    assert [level.shape[-1] for level in maps] == [16, 8, 4, 2, 1]


def test_beit_keeps_the_width_and_taps_a_block_per_level() -> None:
    module = pyramid(encoder(16), PLAIN, BEIT, image_size=64, shrink=False, norm=nn.BatchNorm2d)
    assert module.channels == [32] * 4 and module.strides == [4, 8, 16, 32]
    assert [level.shape[1:] for level in module(torch.randn(2, 3, 64, 64))] == [(32, s, s) for s in (16, 8, 4, 2)]


@pytest.mark.parametrize("class_token", [True, False])
def test_maps_are_timms_own_at_the_size_of_pretraining(class_token: bool) -> None:
    images = torch.randn(2, 3, 64, 64)
    options = replace(PLAIN, class_token=class_token)
    reference = encoder()
    if not class_token:  # timm itself then has none
        reference.cls_token, reference.num_prefix_tokens = None, 0
        reference.pos_embed = nn.Parameter(reference.pos_embed[:, 1:])
    expected = reference.forward_intermediates(images, indices=[1, 3], norm=False, intermediates_only=True)
    found = MapViT(encoder(), options, taps=(1, 3), image_size=64).eval()(images)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


def test_positions_are_interpolated_to_the_input() -> None:
    vit = MapViT(encoder(), PLAIN, taps=(3,), image_size=64)
    ramp = torch.linspace(0, 1, 4)
    vit.pos_embed.data = (ramp[:, None] + 10 * ramp[None, :]).reshape(1, 16, 1).repeat(1, 1, 32)
    table = vit._positions((8, 4))[0, :, 0].reshape(8, 4)
    assert (table[:, 1] - table[:, 0]).mean().item() == pytest.approx(10 / 3, rel=0.05)
    assert (table.diff(dim=0) > -1e-3).all() and table[-1, 0] > 0.9
    assert not vit._positions((4, 4)).isnan().any() and torch.equal(vit._positions((4, 4)), vit.pos_embed)


def test_an_input_is_filled_up_with_zeros_to_whole_patches() -> None:
    vit = MapViT(encoder(), PLAIN, taps=(3,), image_size=64).eval()
    images = torch.randn(1, 3, 50, 60)
    filled = torch.zeros(1, 3, 64, 64)
    filled[:, :, :50, :60] = images
    assert torch.equal(vit(images)[0], vit(filled)[0])


@pytest.mark.parametrize(("relative", "class_token"), [("bias", True), ("bias", False), ("decomposed", False)])
def test_relative_positions_and_layer_scale_start_by_changing_nothing(relative: str, class_token: bool) -> None:
    images = torch.randn(1, 3, 80, 96)
    plain = MapViT(encoder(), replace(PLAIN, class_token=class_token), taps=(3,), image_size=96).eval()
    options = replace(PLAIN, relative=relative, class_token=class_token, layer_scale=1.0)
    torch.testing.assert_close(
        MapViT(encoder(), options, taps=(3,), image_size=96).eval()(images)[0],
        plain(images)[0],
        atol=1e-5,
        rtol=1e-5,
    )


def test_windows_shut_out_what_is_far_except_in_global_blocks() -> None:
    images = torch.randn(1, 3, 128, 128)
    changed = images.clone()
    changed[:, :, :16, :16] += 1.0
    for global_blocks, moves in (((), False), ((2,), True)):
        options = replace(PLAIN, window_size=4, global_blocks=global_blocks)
        vit = MapViT(encoder(), options, taps=(3,), image_size=128).eval()
        difference = (vit(images)[0] - vit(changed)[0]).abs().amax(dim=1)[0]
        assert difference[:4, :4].max() > 1e-4
        assert (difference[4:, 4:].max() > 1e-6) == moves


def test_the_patch_kernel_is_resampled() -> None:
    vit = MapViT(encoder(14), replace(PLAIN, patch_size=16), taps=(3,), image_size=64)
    assert vit.patch_size == 16 and vit(torch.randn(1, 3, 64, 64))[0].shape == (1, 32, 4, 4)
    # A constant image gives the same patches, whatever the size of a patch.
    flat = torch.ones(1, 3, 112, 112)
    old = encoder(14).patch_embed.proj(flat)[0, :, 0, 0]
    torch.testing.assert_close(vit.patch_embed(flat)[0, :, 0, 0], old, atol=1e-4, rtol=1e-3)


def test_layer_decay_reaches_every_parameter_once() -> None:
    options = ViTOptions(
        patch_size=None,
        window_size=2,
        global_blocks=(3,),
        relative="decomposed",
        class_token=False,
        layer_scale=1.0,
    )
    model = nn.ModuleDict({"backbone": detection(encoder(), options), "head": nn.Linear(3, 3)})
    groups = param_groups(model, 1.0, 0.1, layer_decay=0.5, no_decay=("pos_embed",), num_layers=4)
    rate = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(rate) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        if "patch_embed" in name or "pos_embed" in name:
            layer = 0
        elif ".blocks." in name:
            layer = int(name.split(".blocks.")[1].split(".")[0]) + 1
        else:
            layer = 5
        assert rate[id(parameter)] == 0.5 ** (5 - layer), name
    relative = model["backbone"].vit.blocks[0].attn.relative.rows
    assert rate[id(relative)] == 0.5**4


def test_every_parameter_takes_part() -> None:
    """What never gets a gradient would stop training over several devices."""
    for class_token in (True, False):
        options = replace(PLAIN, relative="bias", class_token=class_token, layer_scale=1.0)
        module = pyramid(encoder(), options, BEIT, image_size=64, shrink=False)
        sum(level.square().sum() for level in module(torch.randn(1, 3, 64, 64))).backward()
        assert [name for name, parameter in module.named_parameters() if parameter.grad is None] == []


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match="a scale is 3"):
        detection(encoder(), levels=replace(VITDET, scales=(3,)))
    with pytest.raises(ConfigError, match=r"blocks \[4\] are not among the encoder's, 0 to 3"):
        detection(encoder(), levels=replace(VITDET, taps=(4,)))
    with pytest.raises(ConfigError, match="2 taps for 4 scales"):
        detection(encoder(), levels=replace(VITDET, taps=(1, 2)))
    with pytest.raises(ConfigError, match=r"strides \[3.5"):
        detection(encoder(14))


def test_a_beit_as_a_backbone_is_the_same_function() -> None:
    """The shared bias becomes each block's own; on the grid of pretraining nothing changes."""
    torch.manual_seed(0)
    beit = build_encoder("beit_micro", 24).eval()
    nn.init.normal_(beit.rel_pos_bias.relative_position_bias_table)
    images = torch.randn(2, 3, 24, 24)
    with torch.no_grad():
        expected = beit.forward_intermediates(images, indices=[1, 3], intermediates_only=True)
        found = MapViT(beit, replace(PLAIN, class_token=True), taps=(1, 3), image_size=24).eval()(images)
    for own, timms in zip(found, expected, strict=True):
        assert torch.allclose(own, timms, atol=1e-5)


def test_a_beit_goes_to_other_sizes() -> None:
    torch.manual_seed(0)
    beit = build_encoder("beit_micro", 16)
    levels = PyramidOptions(scales=(2, 1), taps=None, channels=12, extra_levels=0)
    module = pyramid(beit, PLAIN, levels, image_size=48, shrink=True)
    assert module.vit.blocks[0].attn.relative.table.shape == (4, 23, 23)
    module(torch.randn(1, 3, 40, 48))[0].sum().backward()
    assert module.vit.blocks[0].attn.relative.table.grad.abs().sum() > 0


@pytest.mark.parametrize("channels", [None, 12])
def test_a_resnet_gives_its_stages(channels: int | None) -> None:
    torch.manual_seed(0)
    encoder = build_encoder("resnet_micro", 16)
    levels = PyramidOptions(scales=(2,), taps=[1, 2], channels=channels, extra_levels=1)
    module = pyramid(encoder, PLAIN, levels, image_size=48, shrink=True)
    assert module.strides == [2, 4, 8]
    assert module.channels == ([48, 96, 96] if channels is None else [12, 12, 12])
    maps = module(torch.randn(2, 3, 48, 40))
    assert [level.shape[1:] for level in maps] == [
        (width, 48 // stride, 40 // stride) for width, stride in zip(module.channels, module.strides, strict=True)
    ]
    groups = param_groups(module, 1.0, 0.0, layer_decay=0.5, **module.layers)
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    assert rates[id(encoder.conv1.weight)] == 0.5**5 and rates[id(encoder.layer3[0].conv1.weight)] == 0.5**2
    sum(level.sum() for level in maps).backward()
    assert all(parameter.grad is not None for parameter in module.parameters()), "DDP waits for each of them"
    with pytest.raises(ConfigError, match=r"taps is \[4\]; a ResNet has the stages 0 to 3"):
        pyramid(encoder, PLAIN, replace(levels, taps=[4]), image_size=48, shrink=True)


def test_resnet50_has_the_strides_of_the_paper() -> None:
    with torch.device("meta"):
        encoder = build_encoder("resnet50", 224)
        module = pyramid(encoder, PLAIN, replace(VITDET, channels=256), image_size=1024, shrink=True)
    assert module.strides == [4, 8, 16, 32, 64] and module.channels == [256] * 5
