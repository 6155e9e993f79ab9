"""Pickles of arrays: a training state as the authors' scripts leave it, and files that ask for more."""

import os
import pickle
import runpy
import sys
import types
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import cloudpickle
import numpy as np
import pytest
import torch

from pipeline.config import ConfigError
from pipeline.nn.pickled import convert, read_arrays
from pipeline.nn.tensors import read_safetensors

TREE = {
    "cls_token": np.arange(4, dtype=np.float32).reshape(1, 1, 4),
    "encoder": {"Dense_0": {"kernel": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))}},
    "swapped": np.arange(3, dtype=">f4"),
}


def library(name: str, **contents: Any) -> types.ModuleType:
    """A module that is there while a file is written, and not when it is read."""
    module = types.ModuleType(name)
    for key, value in contents.items():
        value.__module__, value.__qualname__ = name, key
        setattr(module, key, value)
    sys.modules[name] = module
    return module


@pytest.fixture
def state():
    """A training state with its optimiser's functions, some of them closures that travel by value."""

    @dataclass
    class TrainState:
        step: int
        params: dict
        opt_state: tuple
        tx: Any
        apply_fn: None = None

    class Frozen(dict):
        def __reduce__(self):
            return type(self), (dict(self),)

    library("m3ae")
    library("m3ae.model", M3AETrainState=TrainState)
    library("flax")
    library("flax.core")
    library("flax.core.frozen_dict", FrozenDict=Frozen)
    rate = 0.1

    def schedule(step):
        return rate * os.getpid() * step

    params = Frozen({"params": OrderedDict(TREE)})
    yield {"step": np.int64(3), "epoch": 1, "variant": {"lr": 0.1, "name": "m3ae", "none": None, "sizes": (1, 2)},
           "state": TrainState(3, params, (np.zeros(2),), schedule)}  # fmt: skip
    for name in [name for name in sys.modules if name.split(".")[0] in ("m3ae", "flax")]:
        del sys.modules[name]


def write(tmp_path, found, dump=pickle.dumps, **how):
    path = tmp_path / "released.pkl"
    path.write_bytes(dump(found, **how))
    return path


def check(arrays):
    assert set(arrays) == {"cls_token", "encoder/Dense_0/kernel", "swapped"}
    assert torch.equal(arrays["cls_token"], torch.arange(4.0).view(1, 1, 4))
    assert torch.equal(arrays["encoder/Dense_0/kernel"], torch.arange(6.0).view(2, 3))
    assert torch.equal(arrays["swapped"], torch.arange(3.0))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_tree_of_arrays_is_read(tmp_path, protocol):
    tree = TREE if protocol > 2 else {}
    if tree:
        check(read_arrays(write(tmp_path, tree, protocol=protocol)))
        check(read_arrays(write(tmp_path, {"params": {"params": tree}}, protocol=protocol)))
    else:  # bytes of protocol 2 ask for an encoder, which no released file does
        with pytest.raises(ConfigError, match=r"it asks for _codecs\.encode"):
            read_arrays(write(tmp_path, TREE, protocol=protocol))


def test_a_training_state_is_read_and_converted_once(tmp_path, state, capsys):
    path = write(tmp_path, state, cloudpickle.dumps)
    for name in [name for name in sys.modules if name.split(".")[0] in ("m3ae", "flax")]:
        del sys.modules[name]
    check(read_arrays(path))
    convert(path, tmp_path / "m3ae.safetensors")
    check(read_safetensors(tmp_path / "m3ae.safetensors")[0])
    assert "3 arrays" in capsys.readouterr().out


class Attack:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


ATTACKS = {
    "a command": lambda mark: Attack(os.system, (f"touch {mark}",)),
    "eval": lambda mark: Attack(eval, (f"open({str(mark)!r}, 'w')",)),
    "an import": lambda mark: Attack(__import__, ("antigravity",)),
    "NumPy's own loader": lambda mark: Attack(np.load, (str(mark),)),
    "an attribute": lambda mark: Attack(getattr, (os, "system")),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_asks_for_more_is_refused_and_nothing_is_executed(tmp_path, attack):
    mark = tmp_path / "mark"
    path = write(tmp_path, {"params": TREE, "more": ATTACKS[attack](mark)}, cloudpickle.dumps)
    with pytest.raises(ConfigError, match=r"cannot be read as a pickle of arrays \(it asks for .*executed"):
        read_arrays(path)
    assert not mark.exists() and "antigravity" not in sys.modules


def test_functions_of_the_libraries_passed_over_are_not_called(tmp_path):
    """`cloudpickle.loads` in a file would execute whatever bytes stand beside it."""
    mark = tmp_path / "mark"
    inner = pickle.dumps(Attack(os.system, (f"touch {mark}",)))
    parts = [pickle.dumps(part, protocol=3)[2:-1] for part in ("more", inner, "params", TREE)]  # without begin and end
    call = b"ccloudpickle\nloads\n" + parts[1] + b"\x85R"
    path = tmp_path / "released.pkl"
    path.write_bytes(b"\x80\x03}(" + parts[0] + call + parts[2] + parts[3] + b"u.")
    check(read_arrays(path))
    assert not mark.exists()
    pickle.loads(inner)
    assert mark.exists()


def _told(path):
    try:
        read_arrays(path)
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ({}, "it is empty, not an array"),
        (3, "it is a int, not an array"),
        ({"params": {"a": [1.0]}}, "a is a list, not an array"),
        ({"params": {"a": {"b": "word"}}}, "a/b is a str, not an array"),
        ({"a": np.array([object()])}, "an array of 'O8'"),
        ({"a": np.array(["word"])}, "an array of 'U4'"),
        ({"a": np.zeros(2, dtype=[("x", "f4")])}, "an array of 'V4'"),
    ],
)
def test_what_is_no_array_is_told(tmp_path, found, told):
    assert told in _told(write(tmp_path, found, protocol=4))


def test_what_is_no_pickle_is_told(tmp_path):
    path = write(tmp_path, TREE)
    path.write_bytes(path.read_bytes()[:-20])
    assert "cannot be read as a pickle of arrays" in _told(path)
    path.write_bytes(b"PK\x03\x04 no pickle")
    assert "cannot be read as a pickle of arrays" in _told(path)
    assert "No such file" in _told(tmp_path / "none.pkl")


def test_the_command_tells_in_one_line(tmp_path, monkeypatch):
    path = write(tmp_path, {"params": {"a": np.array([np.nan], np.float32)}})
    monkeypatch.setattr(sys, "argv", ["pickled", str(path), str(tmp_path / "out.safetensors")])
    with pytest.raises(SystemExit, match=r"^error: .* not finite") as stopped:
        runpy.run_module("pipeline.nn.pickled", run_name="__main__")
    assert len(str(stopped.value).splitlines()) == 1 and not (tmp_path / "out.safetensors").exists()
