"""Weights that others trained: released checkpoints read into a method, with word of every key that was left over."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pipeline.config import ConfigError
from pipeline.manifest import sha256
from pipeline.methods.base import Method
from pipeline.nn.tensors import check_finite, read_pickle, read_safetensors

WRAPPERS = ("model", "model_state", "state_dict", "module")  # where released checkpoints keep the state itself


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The named tensors of a released checkpoint: `.safetensors`, or a pickle of tensors that is read as such only.

    Raises:
        ConfigError: there is no such file, or it holds anything but tensors and the plain values beside them.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(
            f"weights is {str(path)!r}, and there is no such file; download the authors' checkpoint there"
        )
    if path.suffix == ".safetensors":
        return read_safetensors(path)[0]
    # The authors' training scripts save their arguments beside the weights.
    state = read_pickle(path, allowed=(argparse.Namespace,))
    for name in WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(name), Mapping):
            state = state[name]
            break
    named = state if isinstance(state, Mapping) else {}
    tensors = {str(key): value for key, value in named.items() if isinstance(value, Tensor)}
    if not tensors:
        found = f"the keys {sorted(map(str, named))[:8]}" if named else f"a {type(state).__name__}"
        raise ConfigError(f"{path} holds no named tensors but {found}; expected a state dict")
    return tensors


def import_weights(method: Method, path: str | Path) -> dict[str, Any]:
    """Read a released checkpoint into a method.

    Returns:
        For the manifest: `file`, `sha256`, and keys, as the method names them: `unused`, that only the file has, and
        `missing`, that it lacks.

    Raises:
        ConfigError: the encoder is not all there, or a tensor has another shape: the wrong method or size; or a value
            is not finite.
    """
    released = read_state(path)
    translated = method.translate(released)
    method.resize(translated)
    known = {name: value for name, value in method.state_dict().items() if not name.startswith("teacher.")}
    state = {name: value for name, value in translated.items() if name in known}
    apart = [name for name, value in state.items() if value.shape != known[name].shape]
    shapes = [f"{name} is {tuple(state[name].shape)}, expected {tuple(known[name].shape)}" for name in apart]
    missing, unused = sorted(set(known) - set(state)), sorted(set(translated) - set(state))
    lacking = [name for name in missing if name.startswith("encoder.")]
    if shapes or lacking:
        advice = "Choose the run's method and model to fit the checkpoint"
        if not lacking and not any(name.startswith("encoder.") for name in apart):
            advice = "The encoder fits: set the run's options to the sizes of the checkpoint"
            if getattr(method, "teacher", None) is not None:
                advice += ", and leave out its teacher, or name one as wide as the checkpoint's was"
        raise ConfigError(
            f"{path} does not fit {type(method).__name__} on {method.encoder.model_name}: "
            + (f"{len(shapes)} shapes differ ({shapes[0]})" if shapes else f"the encoder lacks {lacking[:3]}")
            + f"; its keys begin with {sorted(released)[:3]}. {advice}"
        )
    check_finite(state, path)
    method.load_state_dict(state, strict=False)
    told = f"{len(state)} tensors read, {len(unused)} unused {unused}, {len(missing)} missing {missing}"
    print(f"{path}: {told}", flush=True)
    return {"file": str(path), "sha256": sha256(path), "unused": unused, "missing": missing}
