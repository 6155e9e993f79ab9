"""Pickles of JAX's arrays, as training scripts leave them, read without executing anything, and written as safetensors:

    python -m pipeline.nn.pickled released.pkl weights/m3ae.safetensors

Admitted are arrays of numbers and plain containers. What else a training state holds (the optimiser's functions, the
state's own class) is replaced by an object that does nothing, if it is of a library that such states are made of; any
other name that a file asks for is refused. NumPy itself is given nothing but bytes, a type of number and a shape.
"""

import pickle
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.config import ConfigError
from pipeline.nn.tensors import save_weights

PASSED_OVER = ("cloudpickle", "flax", "functools", "jax", "jaxlib", "m3ae", "optax")
EXPECTED = "Expected: a training state or a tree of parameters, of arrays in dictionaries. Nothing in it was executed"


class Inert:
    """What stands for an object that is of no use: it takes all that a pickle does to it, and does nothing.

    Attributes:
        fields: what the object's attributes were to be.
    """

    fields: Any = None

    def __new__(cls, *_: Any, **__: Any) -> "Inert":
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __call__(self, *_: Any, **__: Any) -> "Inert":
        return Inert()

    def __setstate__(self, state: Any) -> None:
        self.fields = state

    def append(self, _: Any) -> None: ...

    def extend(self, _: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...


class Number:
    """What stands for `numpy.dtype`: a kind of number, the order of whose bytes is told later."""

    def __init__(self, spec: Any, *_: Any) -> None:
        if not isinstance(spec, str) or not re.fullmatch(r"[fiub][1248]", spec):
            raise pickle.UnpicklingError(f"it has an array of {spec!r}, which is no plain type of number")
        self.spec, self.order = spec, "|"

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        if order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError(f"it has the byte order {order!r}")
        self.order = order

    def array(self, shape: Any, data: Any, fortran: bool) -> np.ndarray:
        """Numbers that lie in `data`, in rows or, as Fortran has them, in columns."""
        if not isinstance(data, bytes | bytearray):
            raise pickle.UnpicklingError(f"an array's data is a {type(data).__name__}")
        return np.frombuffer(data, np.dtype(self.order + self.spec)).reshape(shape, order="F" if fortran else "C")


class Array:
    """What stands for an array that is filled after it was made."""

    value: np.ndarray

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        _, shape, number, fortran, data = state
        self.value = _check(number).array(shape, data, fortran)


def _from_buffer(data: Any, number: Any, shape: Any, order: Any) -> Array:
    array = Array()
    array.value = _check(number).array(shape, data, order == "F")
    return array


def _check(number: Any) -> Number:
    if not isinstance(number, Number):
        raise pickle.UnpicklingError(f"an array is of {type(number).__name__}, which is no type of number")
    return number


NAMES = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): Array for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): Inert for core in ("core", "_core")},
    ("numpy", "ndarray"): Inert,
    ("numpy", "dtype"): Number,
    ("collections", "OrderedDict"): dict,
    ("flax.core.frozen_dict", "FrozenDict"): dict,
}


class Reader(pickle.Unpickler):
    """An unpickler that imports nothing."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in NAMES:
            return NAMES[module, name]
        if module.split(".")[0] in PASSED_OVER:
            return Inert
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def read_arrays(path: str | Path) -> dict[str, Tensor]:
    """The parameters of a pickled training state, or of a pickled tree of parameters, by path: `encoder/Block_0/...`.

    Raises:
        ConfigError: there is no such file, or it holds anything but what is admitted.
    """
    try:
        with open(path, "rb") as file:
            found = Reader(file).load()
        return dict(_leaves(_parameters(found)))
    except Exception as error:  # bytes that are no pickle make the unpickler raise whatever they happen to spell
        told = str(error).split("\n")[0][:200] or type(error).__name__
        raise ConfigError(f"{path} cannot be read as a pickle of arrays ({told}). {EXPECTED}") from None


def convert(source: str | Path, destination: str | Path) -> None:
    """Write the parameters of a pickle as safetensors.

    Raises:
        ConfigError: it cannot be read, or a value is not finite.
    """
    arrays = read_arrays(source)
    save_weights(arrays, Path(destination))
    print(f"{destination}: {len(arrays)} arrays of {source}", flush=True)


def _parameters(found: Any) -> Any:
    """The innermost of what is nested as `state`, `params` and Flax's own `params`."""
    while True:
        found = found.fields if isinstance(found, Inert) else found
        inner = [key for key in ("state", "params") if isinstance(found, Mapping) and key in found]
        if not inner:
            return found
        found = found[inner[0]]


def _leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(tree, Mapping) and tree:
        for key, value in tree.items():
            yield from _leaves(value, f"{path}/{key}" if path else str(key))
    elif isinstance(tree, Array) and path:
        yield path, torch.from_numpy(tree.value.astype(tree.value.dtype.newbyteorder("=")))
    else:
        raise ValueError(f"{path or 'it'} is {'empty' if tree == {} else f'a {type(tree).__name__}'}, not an array")


if __name__ == "__main__":
    try:
        convert(*sys.argv[1:])
    except (ConfigError, TypeError) as problem:
        sys.exit(f"error: {problem}")
