import pytest
import torch
from torch import nn

from pipeline.config import ConfigError
from pipeline.tasks.features import apply, pool


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
