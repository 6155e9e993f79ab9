"""ResNets against torchvision's."""

import pytest
import torch
from torchvision.models import resnet50

from pipeline.nn.encoders import build_encoder, is_transformer, load_encoder, save_encoder
from pipeline.nn.families.resnet import stage_of, stages


def test_resnet50_is_torchvisions():
    torch.manual_seed(0)
    theirs = resnet50().eval()
    theirs.fc = torch.nn.Identity()
    for name, value in theirs.state_dict().items():  # away from the zeros and ones of BatchNorm
        if name.endswith(("bn1.weight", "bn2.weight", "bn3.weight", "bias", "running_mean")):
            value.add_(0.1 * torch.randn_like(value))
    ours = build_encoder("resnet50", 224).eval()
    shapes = [{name: tuple(value.shape) for name, value in model.state_dict().items()} for model in (ours, theirs)]
    assert shapes[0] == shapes[1]
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        features = ours.forward_features(images)
        assert features.shape == (2, 2048, 2, 2) and ours.embed_dim == 2048
        expected = theirs(images)
        assert torch.allclose(features.mean(dim=(2, 3)), expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


def test_stages_end_in_the_features():
    encoder = build_encoder("resnet_micro", 16).eval()
    images = torch.randn(2, 3, 16, 16)
    maps = stages(encoder, images)
    assert [tuple(found.shape[1:]) for found in maps] == [(24, 16, 16), (48, 8, 8), (96, 4, 4), (192, 2, 2)]
    assert torch.equal(maps[-1], encoder.forward_features(images))
    assert not is_transformer(encoder) and encoder.embed_dim == 192


def test_a_small_stem_keeps_every_pixel():
    encoder = build_encoder("resnet_micro", 16)
    assert encoder.conv1.kernel_size == (3, 3)
    assert stages(encoder, torch.randn(1, 3, 20, 28))[0].shape == (1, 24, 20, 28)


@pytest.mark.parametrize(
    "name, stage", [("conv1.weight", 0), ("bn1.bias", 0), ("layer1.0.bn1.weight", 1), ("layer4.2.conv3.weight", 4)]
)
def test_parameters_know_their_stage(name, stage):
    assert stage_of(name) == stage


def test_round_trip_takes_the_running_statistics_along(tmp_path):
    encoder = build_encoder("resnet_micro", 16)
    encoder.forward_features(torch.randn(8, 3, 16, 16) + 1)  # moves them
    encoder.eval()
    save_encoder(encoder, tmp_path / "encoder.safetensors")
    images = torch.randn(2, 3, 24, 24)
    again = load_encoder(tmp_path / "encoder.safetensors", image_size=24).eval()
    assert torch.equal(again.forward_features(images), encoder.forward_features(images))
