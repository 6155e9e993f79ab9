from functools import partial

import pytest
import torch
from torch import nn

from pipeline.config import recipe_head
from pipeline.methods import build_method
from pipeline.methods.base import Context
from pipeline.nn.encoders import build_encoder
from tests.methods import recipe

NUM_CLASSES, NUM_STEPS, BATCH_SIZE = 4, 40, 8
context = partial(Context, num_classes=NUM_CLASSES, num_steps=NUM_STEPS, batch_size=BATCH_SIZE)


class Taught:
    """A teacher that was never published: MAE of the demo recipe, or another method, as it was initialised."""

    def __init__(self, seed: int = 5, method: str = "mae") -> None:
        self.seed, self.method = seed, method

    def encoder(self, grid: tuple[int, int]) -> nn.Module:
        torch.manual_seed(self.seed)
        return build_encoder("vit_micro", (4 * grid[0], 4 * grid[1])).eval().requires_grad_(False)

    def whole(self):
        torch.manual_seed(self.seed)
        return build_method(recipe(self.method), context()).eval().requires_grad_(False)


def build(name: str, teacher: Taught | None = None, model: str | None = None, **changes):
    """A method as its demo recipe describes it, and as small as its encoder allows."""
    settings = recipe(name)
    settings["options"] |= changes
    settings["model"] = model or settings["model"]
    methods = recipe_head(name).teacher
    taught = teacher or Taught(method=methods[0] if isinstance(methods, tuple) else "mae")
    torch.manual_seed(0)
    return build_method(settings, context(teacher=taught))


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    return {
        "images": torch.randn(8, 3, 16, 16, generator=generator),
        "view": torch.randn(8, 3, 16, 16, generator=generator),
        "partner": torch.randn(8, 3, 16, 16, generator=generator),
        "video": torch.randn(8, 3, 8, 16, 16, generator=generator),
        "labels": torch.arange(8) % NUM_CLASSES,
        "epoch": torch.zeros(8, dtype=torch.int64),
        "index": torch.arange(8),
    }
