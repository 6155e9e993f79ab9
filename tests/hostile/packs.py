"""What `prepare` left, damaged since: indices, shards, lists of classes, annotations; and manifests."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import manifest
from pipeline.data.augment import build_transform
from pipeline.data.images import Images
from pipeline.data.kinds.video import Videos
from pipeline.data.packed import PackWriter
from pipeline.data.transforms import CenterCrop
from pipeline.tasks.dense.sets import DetectionSet
from tests.hostile.entry import Entry
from tests.hostile.mutations import cuts, mutations, noise
from tests.hostile.trees import annotations, clip, picture, put

INDEX, SHARD, CLASSES = "train.index.npz", "train-00000.bin", "classes.json"
Change = Callable[[bytes], bytes]
assert build_transform  # what opens a set for training is imported before time is taken


def images(folder: Path, name: str, change: Change) -> None:
    """Write a split of images, change one of its files, and read all of it."""
    _write(folder, [picture()] * 2, ["a.JPEG", "b.JPEG"])
    _change(folder / name, change)
    Images(folder, "train", CenterCrop(16, 16), seed=0).__getitems__([(0, 0), (0, 1)])


def videos(folder: Path, name: str, change: Change) -> None:
    files = folder / "files"
    _write(files, [clip()], ["a"])
    np.savez(files / "train.videos.npz", frames=np.array([8]), fps=np.array([30.0]))
    _change(files / name, change)
    Videos(folder, "train", 16).read(0, [0, 7])


def detection(folder: Path, name: str, change: Change) -> None:
    _write(folder, [picture()] * 2, ["7.jpg", "8.jpg"])
    put(folder / "annotations/train.json", json.dumps(annotations()))
    _change(folder / name, change)
    data = DetectionSet(folder, "train", None, 16, 0)
    assert [data.truth(0).size, data[0, 0].size] == [(16, 16)] * 2


def read_manifest(folder: Path, content: bytes) -> None:
    put(folder / "manifest.json", content)
    manifest.verify(folder / "manifest.json")


def _write(folder: Path, files: Sequence[bytes], keys: Sequence[str]) -> None:
    with PackWriter(folder, "train", 2**20) as pack:
        for place, (key, data) in enumerate(zip(keys, files, strict=True)):
            pack.add(key, data, label=place, height=16, width=16)
    put(folder / CLASSES, '["a", "b"]')


def _change(path: Path, change: Change) -> None:
    path.write_bytes(change(path.read_bytes()))


def arrays(**changes: Any) -> Change:
    def change(data: bytes) -> bytes:
        with np.load(io.BytesIO(data)) as index:
            whole = {name: index[name] for name in index} | changes
        buffer = io.BytesIO()
        np.savez(buffer, **{name: value for name, value in whole.items() if value is not None})
        return buffer.getvalue()

    return change


def bomb(_: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": (2**28,)})
        with file.open("keys.npy", "w", force_zip64=True) as member:
            member.write(head.getvalue())
            for _ in range(2**8):
                member.write(bytes(2**20))
    return buffer.getvalue()


def claim(data: bytes) -> bytes:
    """A head that claims more than there is."""
    return data.replace(b"'shape': (2,), ", b"'shape': (2_000_000_000_000,), ".ljust(15)[:15])


def index_changes() -> Iterator[tuple[str, Change]]:
    for key in ("keys", "label", "height", "width", "shard", "offset", "length"):
        yield f"without {key}", arrays(**{key: None})
        yield f"with objects as {key}", arrays(**{key: np.array([{"a": 1}, print], dtype=object)})
        yield f"with words as {key}", arrays(**{key: np.array(["a", "b"])})
        yield f"with nothing as {key}", arrays(**{key: np.array([], np.int64)})
    for key in ("height", "width", "shard", "offset", "length"):
        yield f"with {key} below zero", arrays(**{key: np.array([-1, -1])})
    for key in ("shard", "offset", "length"):
        yield f"with {key} beyond the shards", arrays(**{key: np.array([0, 10**6])})
        yield f"with {key} beyond all files", arrays(**{key: np.array([0, 2**62])})
    yield "that unpacks to 256 MiB", bomb
    yield "that claims more than there is", claim
    yield "of nothing", lambda data: b""
    yield "as a pickle", lambda data: b"\x80\x04\x95" + bytes(40)


def replaced(spoiled: Callable[[bytes], Iterator[tuple[str, bytes]]]) -> Iterator[tuple[str, Change]]:
    """Each of the ways to spoil data as a change of it."""
    for number, (name, _) in enumerate(spoiled(b"x" * 100)):
        yield name, lambda data, number=number: list(spoiled(data))[number][1]


def whole_manifest() -> dict[str, Any]:
    return {"format": 1, "stage": "knn", "records": [], "settings": {}, "artefacts": {}, "digest": manifest.digest({})}


def act(read: Callable[[Path, str, Change], None], name: str, change: Change) -> Callable[[Path], None]:
    return lambda folder: read(folder, name, change)


ENTRIES = [
    *(
        Entry(name=f"pack: an index {name}", act=act(images, INDEX, change), file=INDEX.partition(".")[0])
        for name, change in index_changes()
    ),
    *(
        Entry(name=f"pack: an index {name}", act=act(images, INDEX, change), file=INDEX)
        for name, change in replaced(cuts)
    ),
    *(
        Entry(name=f"pack: an index with {name}", act=act(images, INDEX, change), file="train", harmless=True)
        for name, change in replaced(noise)
    ),
    *(
        Entry(name=f"pack: a shard {name}", act=act(images, SHARD, change), file=SHARD)
        for name, change in replaced(cuts)
    ),
    *(
        Entry(name=f"pack: a shard with {name}", act=act(images, SHARD, change), file="JPEG of train", harmless=True)
        for name, change in replaced(noise)
    ),
    *(
        Entry(
            name=f"pack: a shard of videos with {name}",
            act=act(videos, f"files/{SHARD}"[6:], change),
            file="a of train",
            harmless=True,
        )
        for name, change in replaced(noise)
    ),
    *(
        Entry(name=f"pack: classes {name}", act=act(images, CLASSES, change), file=CLASSES)
        for name, change in replaced(cuts)
    ),
    *(
        Entry(
            name=f"pack: what is known of videos {name}",
            act=act(videos, "train.videos.npz", change),
            file="train.videos.npz",
        )
        for name, change in replaced(cuts)
    ),
    *(
        Entry(
            name=f"pack: what is known of videos, {name}",
            act=act(videos, "train.videos.npz", change),
            file="train.videos.npz",
        )
        for name, change in {
            "without frames": arrays(frames=None),
            "without rates": arrays(fps=None),
            "of another number": arrays(frames=np.array([8, 8])),
        }.items()
    ),
    *(
        Entry(name=f"pack: annotations {name}", act=act(detection, "annotations/train.json", change), file="train.json")
        for name, change in replaced(cuts)
    ),
    *(
        Entry(
            name=f"manifest: {name}",
            act=lambda folder, data=data: read_manifest(folder, json.dumps(data).encode()),
            file="manifest.json",
            harmless=name.split(".")[0].split(" ")[0] in ("stage", "records", "settings", "format"),
        )
        for name, data in mutations(whole_manifest())
    ),
    *(
        Entry(name=f"manifest {name}", act=lambda folder, data=data: read_manifest(folder, data), file="manifest.json")
        for name, data in cuts(json.dumps(whole_manifest()).encode())
    ),
]
