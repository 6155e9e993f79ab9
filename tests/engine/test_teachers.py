"""A published run as a teacher."""

import pytest
import torch
from safetensors.torch import save_file

from pipeline.config import ConfigError
from pipeline.engine.teachers import PublishedRun
from pipeline.manifest import publish
from pipeline.methods import build_method
from pipeline.methods.base import Context
from pipeline.nn.encoders import build_encoder, save_encoder
from tests.methods import recipe


def published(folder, name="mae", model=None):
    """The encoder of a run as `pretrain` publishes it."""
    settings = recipe(name)
    settings["model"] = model or settings["model"]
    torch.manual_seed(3)
    method = build_method(settings, Context(num_classes=4, num_steps=1, batch_size=8))
    (folder / "work/files").mkdir(parents=True)
    save_encoder(method.exported(), folder / "work/files/encoder.safetensors")
    save_file(method.state_dict(), folder / "work/files/method.safetensors")
    publish(folder / "run", folder / "work/files", {"stage": "pretrain", "settings": settings})
    return method, folder / "run/files/encoder.safetensors"


def test_a_teacher_is_what_was_published_and_is_frozen(tmp_path):
    method, path = published(tmp_path)
    teacher = PublishedRun(path, num_classes=4)
    encoder, whole = teacher.encoder((4, 4)), teacher.whole()
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        expected = method.encoder.eval().forward_features(images)
        assert torch.equal(encoder.forward_features(images), expected)
        assert torch.equal(whole.encoder.forward_features(images), expected)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, method.state_dict()[name])
    for part in (encoder, whole):
        assert not part.training and not any(parameter.requires_grad for parameter in part.parameters())


def test_positions_fit_the_student_s_grid(tmp_path):
    _, path = published(tmp_path)
    encoder = PublishedRun(path, 4).encoder((6, 6))
    assert encoder.patch_embed.grid_size == (6, 6) and encoder.image_size == (24, 24)


def test_a_convolutional_teacher_is_refused(tmp_path):
    torch.manual_seed(0)
    save_encoder(build_encoder("resnet_micro", 16), tmp_path / "encoder.safetensors")
    with pytest.raises(ConfigError, match=r"is a resnet_micro, which gives no patches .* one of \[.*'vit_micro'"):
        PublishedRun(tmp_path / "encoder.safetensors", 4).encoder((4, 4))
