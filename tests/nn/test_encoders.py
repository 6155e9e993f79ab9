import math
import subprocess
import sys
import types
from pathlib import Path
from unittest import mock

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from pipeline.config import ConfigError
from pipeline.methods import build_method
from pipeline.methods.base import Context
from pipeline.nn.encoders import build_encoder, load_encoder, model_of, save_encoder
from pipeline.nn.families.vit import embed_patches, encode
from pipeline.nn.positions import resize_table
from tests.real import ROOT, environment


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return build_encoder("vit_micro", 16)


@pytest.mark.parametrize(("model", "parameters", "grid"), [("vit_base", 85_798_656, 14), ("vit_huge", 630_764_800, 16)])
def test_paper_sizes(model, parameters, grid):
    with torch.device("meta"), mock.patch("pipeline.nn.families.vit.initialise"):  # sizes only, no values
        built = build_encoder(model, 224)
    assert sum(parameter.numel() for parameter in built.parameters()) == parameters
    assert built.patch_embed.grid_size == (grid, grid)


def test_initialisation_is_that_of_the_authors(encoder):
    width = encoder.embed_dim
    qkv = encoder.blocks[0].attn.qkv.weight
    assert qkv.abs().max() <= math.sqrt(6 / (4 * width))  # Xavier on the fused matrix
    assert qkv.abs().max() > 0.98 * math.sqrt(6 / (4 * width))
    kernel = encoder.patch_embed.proj.weight
    assert kernel.abs().max() <= math.sqrt(6 / (width + 3 * 16))
    assert encoder.patch_embed.proj.bias.abs().max() > 0  # left as PyTorch initialises it
    assert encoder.blocks[0].attn.qkv.bias.abs().max() == 0
    assert 0.01 < encoder.cls_token.std() < 0.03
    assert not encoder.pos_embed.requires_grad
    assert encoder.norm.eps == 1e-6


def test_encoding_all_patches_is_the_plain_forward(encoder):
    images = torch.randn(2, 3, 16, 16)
    encoder.eval()
    assert torch.allclose(encode(encoder, embed_patches(encoder, images)), encoder.forward_features(images), atol=1e-5)


def test_encoding_ignores_the_order_of_patches(encoder):
    tokens = embed_patches(encoder.eval(), torch.randn(1, 3, 16, 16))
    order = torch.randperm(16)
    shuffled = encode(encoder, tokens[:, order])
    assert torch.allclose(shuffled[:, 1:], encode(encoder, tokens)[:, 1:][:, order], atol=1e-5)


def test_a_saved_encoder_is_a_plain_timm_state_dict(encoder, tmp_path):
    save_encoder(encoder, tmp_path / "encoder.safetensors")
    plain = VisionTransformer(img_size=16, patch_size=4, num_classes=0, embed_dim=96, depth=4, num_heads=4)
    assert set(load_file(tmp_path / "encoder.safetensors")) == set(plain.state_dict())


def test_round_trip_and_other_image_size(encoder, tmp_path):
    path = tmp_path / "encoder.safetensors"
    save_encoder(encoder, path)
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(load_encoder(path).eval()(images), encoder.eval()(images))
    larger = load_encoder(path, image_size=(24, 32))
    assert larger.patch_embed.grid_size == (6, 8)
    assert torch.equal(larger.pos_embed, resize_table(encoder.pos_embed, 6, 8))
    assert larger.forward_features(torch.randn(1, 3, 24, 32)).shape == (1, 49, 96)


def test_errors_name_what_is_available(encoder, tmp_path):
    with pytest.raises(ConfigError, match=r"model is 'vit_tiny'; available: \[.*'vit_base'"):
        build_encoder("vit_tiny", 16)
    with pytest.raises(ConfigError, match="image_size is 18; expected a multiple of vit_micro's patch size, 4"):
        build_encoder("vit_micro", 18)
    with pytest.raises(ConfigError, match=r"vit_micro needs an image_size, and none is given; say it as augment\."):
        build_encoder("vit_micro")
    with pytest.raises(ConfigError, match="there is no encoder"):
        load_encoder(tmp_path / "nothing.safetensors")


class Gather(nn.Module):
    """Sums messages over the edges of a graph: an encoder of no images, whose family names nothing but its size."""

    def __init__(self, size):
        super().__init__()
        self.embed_dim = size["width"]
        self.message = nn.Linear(3, size["width"])

    def forward_features(self, graph):
        nodes, edges = graph
        return torch.zeros(len(nodes), self.embed_dim).index_add(0, edges[1], self.message(nodes[edges[0]]))


@pytest.fixture
def gather(project, monkeypatch):
    """A family of a method's own."""
    Path("config/models/gather.yaml").write_text(
        "{takes: [solids], gives: [features], models: {gather_micro: {width: 5}}}"
    )
    module = types.ModuleType("pipeline.nn.families.gather")
    module.build, module.fit_positions = lambda size: Gather(size), lambda state, encoder: state
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return build_encoder("gather_micro")


def test_an_encoder_without_an_image_size_round_trips(gather, tmp_path):
    path = tmp_path / "encoder.safetensors"
    save_encoder(gather, path)
    again = load_encoder(path)
    assert isinstance(again, Gather) and model_of(path) == "gather_micro"
    assert (again.takes, again.image_size) == ("solids", None)
    graph = (torch.randn(4, 3), torch.tensor([[0, 1, 2], [3, 3, 0]]))
    assert torch.equal(again.forward_features(graph), gather.forward_features(graph))


def test_a_method_is_built_around_it_from_a_recipe_without_images(gather):
    settings = {"method": "random", "model": "gather_micro", "options": {}}
    method = build_method(settings, Context(num_classes=1, num_steps=0, batch_size=0))
    assert isinstance(method.exported(), Gather)


SAVE = """
import sys
from pathlib import Path
import torch
from pipeline.methods import build_method
from pipeline.methods.base import Context
from pipeline.engine.pretrain import save_method
from pipeline.nn.encoders import save_encoder
from tests.methods import recipe

torch.manual_seed(0)
method = build_method(recipe("mixmask"), Context(num_classes=4, num_steps=1, batch_size=8))
save_encoder(method.encoder, Path(sys.argv[1]) / "encoder.safetensors")
save_method(method, Path(sys.argv[1]) / "method.safetensors")
"""


def test_equal_encoders_and_methods_are_saved_as_equal_bytes(tmp_path):
    for seed in ("1", "2"):
        (tmp_path / seed).mkdir()
        command = [sys.executable, "-c", SAVE, str(tmp_path / seed)]
        subprocess.run(command, cwd=ROOT, env=environment(PYTHONHASHSEED=seed), check=True, timeout=120)
    for name in ("encoder.safetensors", "method.safetensors"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    with safe_open(tmp_path / "1/encoder.safetensors", framework="pt") as file:
        assert len(file.metadata()) == 1  # the order of several would be another each time


@pytest.mark.parametrize("value", [float("nan"), -float("inf")])
def test_an_encoder_that_is_not_finite_is_not_saved(encoder, tmp_path, value):
    save_encoder(encoder, tmp_path / "encoder.safetensors")
    before = (tmp_path / "encoder.safetensors").read_bytes()
    encoder.blocks[0].mlp.fc1.bias.data[2] = value
    with pytest.raises(ConfigError, match=r"encoder.safetensors: blocks.0.mlp.fc1.bias has 1 of .* not finite"):
        save_encoder(encoder, tmp_path / "encoder.safetensors")
    assert (tmp_path / "encoder.safetensors").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_files_of_before_are_still_read(encoder, tmp_path):
    path = tmp_path / "encoder.safetensors"
    save_file(encoder.state_dict(), path, metadata={"model": "vit_micro", "height": "16", "width": "16"})
    again = load_encoder(path)
    assert again.image_size == (16, 16) and model_of(path) == "vit_micro"
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in encoder.state_dict().items())
    save_file(encoder.state_dict(), path, metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"was not saved as an encoder: its metadata has \['format'\]"):
        load_encoder(path)
