"""Parts of Siamese networks: InfoNCE against a loop, and batches shuffled over two real processes."""

import math

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn
from torch.nn import functional as F

from pipeline.nn.encoders import build_encoder
from pipeline.nn.siamese import contrast, gather, mlp, pooled, shuffled


def test_contrast_equals_a_loop():
    queries, keys, queue = (F.normalize(torch.randn(n, 5), dim=1) for n in (3, 3, 7))
    total = 0.0
    for query, key in zip(queries, keys, strict=True):
        scores = [math.exp(query @ other / 0.2) for other in (key, *queue)]
        total -= math.log(scores[0] / sum(scores))
    assert contrast(queries, keys, queue, 0.2).item() == pytest.approx(total / 3, rel=1e-5)


def test_pooled_features_are_means_of_maps_or_class_tokens():
    images = torch.randn(2, 3, 16, 16)
    for model in ("resnet_micro", "vit_micro"):
        encoder = build_encoder(model, 16).eval()
        features = encoder.forward_features(images)
        expected = features.flatten(2).mean(dim=2) if model == "resnet_micro" else features[:, 0]
        assert torch.allclose(pooled(encoder, images), expected, atol=1e-6)


def test_projectors_are_those_of_their_papers():
    kinds = [type(layer).__name__ for layer in mlp([4, 5, 6], norm=False)]
    assert kinds == ["Linear", "ReLU", "Linear"]  # MoCo v2
    layers = mlp([4, 5, 5, 6], norm=True, last_norm=True)  # SimSiam
    assert [type(layer).__name__ for layer in layers] == [
        "Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d",
    ]  # fmt: skip
    assert layers[1].affine and not layers[-1].affine
    assert [layer.out_features for layer in layers if isinstance(layer, nn.Linear)] == [5, 5, 6]


class Remember(nn.Module):
    """Doubles its input and says which images it was given."""

    def forward(self, images):
        self.seen = images.flatten().tolist()
        return 2 * images


def exchange(rank, folder):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.manual_seed(rank)
    images, model = torch.arange(8.0)[:, None] + 100 * rank, Remember()
    results = shuffled(model, images)
    torch.save({"results": results, "seen": model.seen, "all": gather(images)}, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_batches_are_exchanged_between_devices_and_come_back_in_order(tmp_path):
    mp.spawn(exchange, args=(str(tmp_path),), nprocs=2)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    everything = [*range(8), *range(100, 108)]
    for rank, own in enumerate(found):
        assert own["results"].flatten().tolist() == [2 * (100 * rank + place) for place in range(8)]
        assert own["all"].flatten().tolist() == everything
    assert sorted(found[0]["seen"] + found[1]["seen"]) == everything
    assert {value >= 100 for value in found[0]["seen"]} == {True, False}  # of both devices


def test_one_device_alone_needs_no_exchange():
    model, images = Remember(), torch.randn(4, 1)
    assert torch.equal(shuffled(model, images), 2 * images) and torch.equal(gather(images), images)
