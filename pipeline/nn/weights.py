"""Weights on their way to a file or from one: finite, and written whole or not at all."""

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from pipeline.config import ConfigError
from pipeline.files import written


def save_weights(state: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write named tensors as safetensors.

    Raises:
        ConfigError: a value is not finite.
    """
    check_finite(state, path)
    with written(path) as pending:
        save_file({name: value.detach().cpu().contiguous() for name, value in state.items()}, pending, metadata)


def check_finite(state: Mapping[str, Tensor], path: str | Path) -> None:
    """Raises ConfigError, naming tensor and file, where a value is NaN or infinite."""
    for name, value in state.items():
        if value.is_floating_point() and (bad := int((~value.isfinite()).sum())):
            raise ConfigError(
                f"{path}: {name} has {bad:,} of {value.numel():,} values that are not finite; expected weights that "
                "are all numbers. What is read must be downloaded or trained again; a training that made them needs a "
                "lower rate, a longer warm-up or float32"
            )
