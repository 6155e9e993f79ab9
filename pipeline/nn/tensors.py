"""Files of named tensors: written whole or not at all; read, whoever wrote them, without executing anything in them."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from pipeline.config import ConfigError
from pipeline.files import written


def read_safetensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a .safetensors file, and its metadata.

    Raises:
        ConfigError: it is none, or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118 (not a dict)
    except Exception as error:  # of a library that names no type of its own for most of what can be wrong
        raise ConfigError(f"{path} cannot be read as safetensors ({_one_line(error)}); make or copy it again") from None


def read_pickle(path: str | Path, allowed: Sequence[type] = ()) -> Any:
    """What a file of `torch.save` holds: tensors, plain values, and objects of the types allowed.

    Raises:
        ConfigError: it holds anything else, or is damaged. Nothing in it was executed.
    """
    try:
        with torch.serialization.safe_globals(list(allowed)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are no checkpoint make the unpickler raise whatever they happen to spell
        # PyTorch's own words advise to load the file in a way that executes it.
        asked = re.search(r"(?:GLOBAL|global) ([\w.]+)", str(error))
        reason = f"it asks for {asked[1]}, which is no tensor" if asked else _one_line(error)
        if "weights_only" in reason or "Weights only" in reason:
            reason = "it is no file of tensors, or a damaged one"
        raise ConfigError(
            f"{path} cannot be read as a checkpoint of tensors ({reason}); expected a state dict as .safetensors, .pth "
            "or .pt. Nothing in it was executed"
        ) from None


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


def _one_line(error: Exception) -> str:
    told = " ".join(str(error).split("\n")[0].split())
    return told[:200] or type(error).__name__
