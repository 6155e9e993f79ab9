import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.methods.conftest import build

IMAGES, LABELS = torch.randn(8, 3, 16, 16), torch.arange(8) % 4


def test_loss_is_smoothed_cross_entropy_of_the_class_token():
    method = build("supervised", label_smoothing=0.1).eval()
    logits = method.head(method.encoder.forward_features(IMAGES)[:, 0])
    expected = cross_entropy(logits, LABELS, label_smoothing=0.1)
    assert method(IMAGES, LABELS).loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_mixing_leaves_the_batch_it_was_given():
    method = build("supervised", mixup=0.8, cutmix=1.0)
    images = IMAGES.clone()
    assert torch.isfinite(method(images, LABELS, torch.arange(8), torch.rand(8, 4)).loss)
    assert torch.equal(images, IMAGES)


def test_the_moving_average_is_what_is_exported():
    method = build("supervised", ema_momentum=0.9)
    before = method.exported().norm.weight.clone()
    with torch.no_grad():
        method.encoder.norm.weight += 1
    method.after_step()
    assert torch.allclose(method.exported().norm.weight, before + 0.1)
    assert not any(parameter.requires_grad for parameter in method.average.parameters())


def test_without_an_average_the_encoder_itself_is_exported():
    method = build("supervised", ema_momentum=0.0)
    assert method.exported() is method.encoder
