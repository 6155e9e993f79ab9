"""A published run as a teacher of others."""

from pathlib import Path
from typing import Any

from torch import nn

from pipeline import manifest
from pipeline.config import ConfigError, models
from pipeline.methods import build_method
from pipeline.methods.base import Context, Method
from pipeline.nn.encoders import load_encoder, model_of
from pipeline.nn.tensors import read_safetensors


class PublishedRun:
    """What a run published, loaded when it is asked for; see `pipeline.methods.base.Teacher`.

    Args:
        encoder: file of its encoder, beside which everything else stands.
        num_classes: of the data, which a classifier among the teachers was built for.
        teacher: the run that it learned from itself; wanted by `whole` where the method keeps parts of it.
    """

    def __init__(self, encoder: Path, num_classes: int, teacher: "PublishedRun | None" = None) -> None:
        self.path, self.num_classes, self.teacher = encoder, num_classes, teacher

    @property
    def settings(self) -> dict[str, Any]:
        """Of its pretraining."""
        return manifest.read(self.path.parent.parent / "manifest.json")["settings"]

    def encoder(self, grid: tuple[int, int]) -> nn.Module:
        model, sizes = model_of(self.path), models()
        if "patch_size" not in sizes[model]:
            fitting = [name for name, size in sizes.items() if "patch_size" in size]
            raise ConfigError(
                f"the teacher {self.path} is a {model}, which gives no patches to learn from; "
                f"expected a run whose model is one of {fitting}"
            )
        image_size = (grid[0] * sizes[model]["patch_size"], grid[1] * sizes[model]["patch_size"])
        return load_encoder(self.path, image_size).eval().requires_grad_(False)

    def whole(self) -> Method:
        context = Context(num_classes=self.num_classes, num_steps=0, batch_size=0, teacher=self.teacher)
        method = build_method(self.settings, context)
        path = self.path.with_name("method.safetensors")
        missing, unknown = method.load_state_dict(read_safetensors(path)[0], strict=False)
        missing = [name for name in missing if not name.startswith("teacher.")]  # published by the teacher itself
        if missing or unknown:
            raise ConfigError(f"{path} does not fit {type(method).__name__}: missing {missing}, not known {unknown}; "
                              "it was published by other code: run that pretraining again")  # fmt: skip
        return method.eval().requires_grad_(False)
