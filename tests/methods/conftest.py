import pytest
import torch

from pipeline.engine.pretrain import build_method
from pipeline.methods.base import Context
from tests.methods import recipe

NUM_CLASSES, NUM_STEPS = 4, 40


def build(name: str, **changes):
    """A method as its demo recipe describes it, and as small as its encoder allows."""
    settings = recipe(name)
    settings["options"] |= changes
    torch.manual_seed(0)
    return build_method(settings, Context(num_classes=NUM_CLASSES, num_steps=NUM_STEPS))


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    return {
        "images": torch.randn(8, 3, 16, 16, generator=generator),
        "labels": torch.arange(8) % NUM_CLASSES,
        "epoch": torch.zeros(8, dtype=torch.int64),
        "index": torch.arange(8),
    }
