import pytest
import torch
from torch import nn

from pipeline.config import ConfigError
from pipeline.nn.encoders import build_encoder
from pipeline.tasks.features import Part, apply, extract, pool


class Few:
    """Five 'images' whose pixels are their index."""

    def __len__(self):
        return 5

    def __getitems__(self, samples):
        return {"images": torch.tensor([float(index) for _, index in samples]).reshape(-1, 1)}


def test_pooling():
    tokens = torch.tensor([[[1.0], [2.0], [6.0]]])
    assert pool(tokens, "class_token").item() == 1 and pool(tokens, "mean").item() == 4
    with pytest.raises(ConfigError, match=r"feature is 'max'; available: \['class_token', 'mean'\]"):
        pool(tokens, "max")


def test_every_image_is_seen_once_in_order_and_without_training():
    model = nn.Sequential(nn.Identity(), nn.Dropout(0.9)).train()
    found = apply(model, Few(), {"batch_size": 2, "num_workers": 0})
    assert found.flatten().tolist() == [0, 1, 2, 3, 4]


def test_a_part_keeps_the_draws_of_the_whole():
    class Whole:
        labels = torch.arange(10) * 10

        def __getitems__(self, samples):
            return samples

    part = Part(Whole(), torch.tensor([3, 7]))
    assert len(part) == 2 and part.labels.tolist() == [30, 70]
    assert part.__getitems__([(5, 0), (5, 1)]) == [(5, 3), (5, 7)]


class Noise:
    """Five images."""

    def __len__(self):
        return 5

    def __getitems__(self, samples):
        return {"images": torch.stack([torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(index))
                                       for _, index in samples])}  # fmt: skip


@pytest.mark.parametrize("feature", ["class_token", "mean"])
def test_a_fresh_norm_takes_the_place_of_the_encoder_s_own(feature):
    torch.manual_seed(0)
    encoder = build_encoder("vit_micro", 16).eval()
    encoder.norm.weight.data.uniform_(0.5, 2.0)
    settings = {"feature": feature, "batch_size": 2, "num_workers": 0}
    images = Noise().__getitems__([(0, index) for index in range(5)])["images"]
    with torch.no_grad():
        normed = encoder.forward_features(images)
        assert torch.allclose(extract(encoder, Noise(), settings), pool(normed, feature), atol=1e-5)
        found = extract(encoder, Noise(), {**settings, "fresh_norm": True})
        pooled = pool(encoder.forward_features(images), feature)  # whose norm is gone now
    expected = (pooled - pooled.mean(1, keepdim=True)) / pooled.std(1, correction=0, keepdim=True)
    assert torch.allclose(found, expected, atol=1e-3) and not torch.allclose(pooled, pool(normed, feature), atol=0.1)
    # Vectors of one length: the nearest by angle are the nearest by distance.
    assert torch.allclose(found.norm(dim=1), torch.full((5,), 96**0.5), rtol=1e-3)
