import pytest
import torch
from torch.nn import functional as F

from pipeline.nn.encoders import build_encoder
from pipeline.tasks.finetune import Classifier

IMAGES, LABELS = torch.randn(8, 3, 16, 16), torch.arange(8)


def build(mixup=0.0, cutmix=0.0, smoothing=0.0):
    torch.manual_seed(0)
    mixing = {"mixup": mixup, "cutmix": cutmix}
    return Classifier(build_encoder("vit_micro", 16), 10, mixing, smoothing)


def test_pooled_patch_tokens_of_the_last_block_are_normalised_and_classified():
    model = build().eval()
    model.head.weight.data.normal_()
    encoder = build_encoder("vit_micro", 16)
    tokens = model.encoder.patch_embed(IMAGES) + model.encoder.pos_embed[:, 1:]
    tokens = torch.cat([model.encoder.cls_token.expand(8, -1, -1), tokens], dim=1)
    pooled = model.encoder.blocks(tokens)[:, 1:].mean(dim=1)  # the encoder's own norm is gone
    expected = model.head(F.layer_norm(pooled, (encoder.embed_dim,), eps=1e-6))
    assert torch.allclose(model(IMAGES), expected, atol=1e-5)


def test_everything_is_trained_positions_included():
    model = build()
    assert model.encoder.pos_embed.requires_grad
    model.head.weight.data.normal_()
    model(IMAGES, LABELS, mode="loss")["loss"].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_the_head_starts_almost_at_zero():
    model = build()
    assert model.head.weight.abs().max() < 1e-4 and model.head.bias.abs().max() == 0


def test_the_head_may_start_wider():
    model = Classifier(build_encoder("vit_micro", 16), 10, {}, 0.0, head_std=0.01)
    assert model.head.weight.std().item() == pytest.approx(0.01, rel=0.1)


def test_labels_are_smoothed_once():
    model = build(smoothing=0.1)
    model.head.weight.data.normal_()
    expected = F.cross_entropy(model(IMAGES), LABELS, label_smoothing=0.1)
    assert model(IMAGES, LABELS, mode="loss")["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_mixed_batches_differ_and_leave_the_input():
    model = build(mixup=0.8, cutmix=1.0)
    images, batch = IMAGES.clone(), {"epoch": torch.zeros_like(LABELS), "index": LABELS}
    loss = model(images, LABELS, mode="loss", **batch)["loss"]
    assert torch.isfinite(loss) and torch.equal(images, IMAGES)
    assert loss == model(images, LABELS, mode="loss", **batch)["loss"], "what is drawn is told by seed and sample"
    model.head.weight.data.normal_()
    told = [model(images, LABELS, mode="loss", **batch | {"epoch": epoch + batch["epoch"]})["loss"] for epoch in (0, 1)]
    assert told[0] != told[1]
