"""A method as an MMEngine model: it draws the method's random numbers and hands its loss to the Runner."""

from typing import Any

from mmengine.model import BaseModel
from torch import Tensor

from pipeline.data import draws
from pipeline.data.transforms import normalised
from pipeline.methods.base import Method, Step

PIXELS = ("images", "view", "partner")  # of a batch, that may come as 8-bit levels


class Objective(BaseModel):
    """One training step of a method on a batch of images.

    Args:
        method: the method.
        seed: with epoch and index of a sample it decides the numbers drawn for it.
    """

    def __init__(self, method: Method, seed: int) -> None:
        super().__init__()
        self.method, self.seed = method, seed

    def forward(self, mode: str = "loss", **batch: Tensor) -> Any:
        """The step's loss for the Runner (`mode="loss"`), or the whole step (`mode="tensor"`)."""
        step = self.step(**batch)
        return {"loss": step.loss, **step.parts} if mode == "loss" else step

    def step(self, **batch: Tensor) -> Step:
        """The method's step on a batch of `images`, `labels`, `epoch` and `index`; pixels are normalised here."""
        batch = {name: normalised(value) if name in PIXELS else value for name, value in batch.items()}

        def draw(num: int) -> Tensor:
            return draws.uniform(self.seed, batch["epoch"], batch["index"], num, draws.MASK)

        return self.method(**self.method.inputs(batch, draw))

    def after_step(self) -> None:
        self.method.after_step()
