"""Files of weights: pickles that ask for code, damaged encoders, checkpoints and their seals."""

from __future__ import annotations

import argparse
import builtins
import importlib
import io
import json
import os
import pickle
import struct
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from pipeline.engine import checkpoint
from pipeline.engine.weights import read_state
from pipeline.nn.encoders import build_encoder, load_encoder, save_encoder
from pipeline.nn.tensors import read_pickle
from tests.hostile.entry import Entry
from tests.hostile.mutations import cuts, mutations, noise
from tests.hostile.trees import CANARY, put
from tests.real import ROOT

CHECKPOINT, SEAL = "step-00000001.pt", "step-00000001.json"
CALLS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "os.system": (os.system, (f"touch {CANARY}",)),
    "subprocess.run": (subprocess.run, (["touch", CANARY],)),
    "subprocess.Popen": (subprocess.Popen, (["touch", CANARY],)),
    "builtins.open": (open, (CANARY, "w")),
    "builtins.exec": (builtins.exec, (f"open({CANARY!r}, 'w')",)),
    "builtins.eval": (builtins.eval, (f"open({CANARY!r}, 'w')",)),
    "builtins.__import__": (builtins.__import__, ("antigravity",)),
    "builtins.getattr": (getattr, (os, "system")),
    "importlib.import_module": (importlib.import_module, ("antigravity",)),
    "pathlib.Path.touch": (Path.touch, (Path(CANARY),)),
    "os.mkdir": (os.mkdir, (CANARY,)),
    "torch.load": (torch.load, ("x",)),
    "torch.hub.load": (torch.hub.load, ("x", "y")),
    "pickle.loads": (pickle.loads, (b"x",)),
    "io.open_code": (io.open_code, ("/etc/passwd",)),
    "importlib.reload": (importlib.reload, (json,)),
}


class Asks:
    def __init__(self, call: Any, arguments: tuple[Any, ...]) -> None:
        self.told = call, arguments

    def __reduce__(self) -> Any:
        return self.told


def pickles() -> Iterator[tuple[str, bytes]]:
    for name, told in CALLS.items():
        for how, legacy in (("", False), (", in the old form", True)):
            buffer = io.BytesIO()
            try:
                torch.save(
                    {"model": {"w": torch.zeros(2)}, "x": Asks(*told)},
                    buffer,
                    _use_new_zipfile_serialization=not legacy,
                )
            except Exception:  # a module cannot be pickled itself
                continue
            yield f"asks for {name}{how}", buffer.getvalue()
        with_protocol = [pickle.dumps(Asks(*told), protocol) for protocol in (0, 2, 4) if name != "builtins.getattr"
                         and name != "importlib.reload"]  # fmt: skip
        yield from ((f"is a plain pickle of {name}, {place}", data) for place, data in enumerate(with_protocol))
    yield "sets a state by code", pickle.dumps(argparse.Namespace, 2)


def others() -> Iterator[tuple[str, bytes]]:
    archive, buffer = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in (f"../{CANARY}", "storages", "tensors", "pickle"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(f"../{CANARY}", b"x")
        file.writestr("archive/data.pkl", pickle.dumps({"a": 1}))
    yield "is a tar archive that leads out", archive.getvalue()
    yield "is a zip archive that leads out", buffer.getvalue()
    yield "is empty", b""
    yield "is a page of HTML", b"<html>not found</html>"
    yield "is zeros", bytes(5000)
    yield "is a pickle of a lambda's name", b"c__main__\n<lambda>\n(tR."
    yield "is a pickle that nests", b"(" * 100_000 + b"."
    yield "pops from nothing", b"\x80\x02000."
    yield "has an unknown protocol", b"\x80\xff."
    for what in (torch.zeros(3), [torch.zeros(3)], {"epoch": 3}, {"model": {"lr": 0.1}}, 7, None):
        saved = io.BytesIO()
        torch.save(what, saved)
        yield f"holds {str(what)[:20]} and no names", saved.getvalue()


@cache
def released() -> bytes:
    buffer = io.BytesIO()
    torch.save({"model": {"a.weight": torch.arange(300.0), "a.bias": torch.zeros(3)}}, buffer)
    return buffer.getvalue()


@cache
def encoder() -> bytes:
    with tempfile.TemporaryDirectory() as folder, _in_root():
        path = Path(folder) / "encoder.safetensors"
        save_encoder(build_encoder("vit_micro", 16), path)
        return path.read_bytes()


class _in_root:
    """Models are read where the project stands."""

    def __enter__(self) -> None:
        self.before = os.getcwd()
        os.chdir(ROOT)

    def __exit__(self, *_: object) -> None:
        os.chdir(self.before)


def load(data: bytes) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        put(folder / "encoder.safetensors", data)
        with _in_root():
            load_encoder(folder / "encoder.safetensors", 16)

    return act


def states(data: bytes, suffix: str = ".pth") -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        put(folder / f"weights{suffix}", data)
        read_state(folder / f"weights{suffix}")

    return act


def optimizer(data: bytes) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        put(folder / "optimizer.pt", data)
        read_pickle(folder / "optimizer.pt")

    return act


def newest(
    change: Callable[[bytes], bytes], name: str = "step-00000001.pt", seal: bool = False
) -> Callable[[Path], None]:
    """A checkpoint whose file or seal is changed; with `seal` the seal is made to fit."""

    def act(folder: Path) -> None:
        path = checkpoint.save(folder, 1, {"weights": torch.zeros(3)})
        (folder / name).write_bytes(change((folder / name).read_bytes()))
        if seal:
            content = {"sha256": checkpoint.sha256(path), "bytes": path.stat().st_size}
            path.with_suffix(".json").write_text(json.dumps(content))
        checkpoint.load_newest(folder)

    return act


def metadata(content: Any, key: str = "encoder") -> bytes:
    told = content if isinstance(content, str) else json.dumps(content)
    return save({"a": torch.zeros(2)}, metadata={key: told})


def heads() -> Iterator[tuple[str, bytes]]:
    def file(head: bytes, size: int | None = None) -> bytes:
        return struct.pack("<Q", len(head) if size is None else size) + head + bytes(8)

    yield "a head of 2^63 bytes", file(b"{}", 2**63)
    yield "a head of 100 GB", file(b"{}", 10**11)
    yield "a head that is no JSON", file(b"{'a': 1}")
    yield "a head without end", file(b'{"a":' * 10_000)
    tensor = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    for name, changes in {
        "beyond its file": {"data_offsets": [0, 2**40], "shape": [2**38]},
        "of a shape without end": {"shape": [2**40, 2**40]},
        "of an unknown type": {"dtype": "X99"},
        "that ends before it begins": {"data_offsets": [8, 0]},
        "of another shape": {"shape": [3]},
        "below zero": {"shape": [-2]},
    }.items():
        yield f"a tensor {name}", file(json.dumps({"a": {**tensor, **changes}}).encode())
    yield "two tensors in one place", file(json.dumps({"a": tensor, "b": tensor}).encode())


TOLD = {"model": "vit_micro", "image_size": [16, 16]}
ENTRIES = [
    *(
        Entry(name=f"weights: a file that {name}", act=states(data), file="weights.pth")
        for name, data in (*pickles(), *others())
    ),
    *(
        Entry(name=f"optimiser: a file that {name}", act=optimizer(data), file="optimizer.pt")
        for name, data in pickles()
    ),
    *(Entry(name=f"weights {name}", act=states(data), file="weights.pth") for name, data in cuts(released())),
    *(
        Entry(name=f"weights with {name}", act=states(data), file="weights.pth", harmless=True)
        for name, data in noise(released())
    ),
    *(
        Entry(name=f"weights: {name}", act=states(data, ".safetensors"), file="weights.safetensors")
        for name, data in heads()
    ),
    *(Entry(name=f"encoder: {name}", act=load(data), file="encoder.safetensors") for name, data in heads()),
    *(Entry(name=f"encoder {name}", act=load(data), file="encoder.safetensors") for name, data in cuts(encoder())),
    *(
        Entry(name=f"encoder with {name}", act=load(data), file="encoder.safetensors", harmless=True)
        for name, data in noise(encoder())
    ),
    *(
        Entry(name=f"encoder: metadata where {name}", act=load(metadata(told)), file="encoder.safetensors")
        for name, told in mutations(TOLD)
    ),
    *(
        Entry(name=f"encoder: metadata {name}", act=load(data), file="encoder.safetensors")
        for name, data in {
            "that are none": save({"a": torch.zeros(2)}),
            "of no JSON": metadata("{"),
            "of a list": metadata([1]),
            "without end": metadata("[" * 200_000),
            "of another key": metadata("x", "model"),
            "of another model": metadata(TOLD),
            "of 10^9 pixels": metadata({**TOLD, "image_size": [10**9, 10**9]}),
        }.items()
    ),
    *(
        Entry(
            name=f"checkpoint cut at {tenth} of 10",
            file="step-00000001.pt",
            act=newest(lambda data, tenth=tenth: data[: len(data) * tenth // 10]),
        )
        for tenth in range(10)
    ),
    *(
        Entry(
            name=f"checkpoint with noise at {tenth} of 10",
            file="step-00000001.pt",
            act=newest(lambda data, tenth=tenth: list(noise(data))[tenth][1]),
        )
        for tenth in range(10)
    ),
    *(
        Entry(
            name=f"checkpoint: a seal of {seal!r:.20}",
            file="step-00000001.pt",
            act=newest(lambda data, seal=seal: seal, SEAL),
        )
        for seal in (b"", b"{", b"[]", b"null", b'{"bytes": "x"}', b'{"sha256": 7}', b"\0" * 40, b"[" * 200_000)
    ),
    *(
        Entry(
            name=f"checkpoint: sealed, it {name}",
            file=CHECKPOINT,
            act=newest(lambda data, new=data: new, CHECKPOINT, seal=True),
        )
        for name, data in pickles()
    ),
]
