"""Solids in STEP files, in the layouts of MFCAD, the Fusion 360 Gallery's segmentation and FabWave.

Each file is one part. It is read by OpenCASCADE in a process of its own and kept as the numbers of
`pipeline.data.brep.graph`, of which encoders and tasks are given all they see.
"""

import io
import json
import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import save

from pipeline.config import ConfigError
from pipeline.config.types import Count, Fraction, Natural, Seed, Share
from pipeline.data.apart import Apart
from pipeline.data.brep.graph import Part, Sampling, read_part
from pipeline.data.brep.step import MOST_BYTES
from pipeline.data.inspection import Findings, look_at
from pipeline.data.official import check_counts, check_root, journal_of
from pipeline.data.outside import read_file, read_text
from pipeline.data.packed import PackWriter

SUFFIXES = (".step", ".stp")
SECONDS = 120.0  # that OpenCASCADE may take for a file
MFCAD_NAMES = (  # in the corrected order of hducg/MFCAD, issue 2
    "chamfer", "triangular passage", "rectangular passage", "6-sides passage", "triangular through slot",
    "rectangular through slot", "rectangular through step", "2-sides through step", "slanted through step",
    "triangular pocket", "rectangular pocket", "6-sides pocket", "rectangular blind slot", "triangular blind step",
    "rectangular blind step", "stock",
)  # fmt: skip
FUSION_NAMES = ("ExtrudeSide", "ExtrudeEnd", "CutSide", "CutEnd", "Fillet", "Chamfer", "RevolveSide", "RevolveEnd")
# How a set that was just written is read: nothing in it may be wrong.
MADE: dict[str, Any] = {"max_faces": 200, "max_face_edges": 60, "expect": None, "max_reject_share": 0.0,
                        "shard_mib": 1024}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a study says about a set of STEP files that the user keeps.

    root: its folder.
    layout: `mfcad`, `fusion360` or `fabwave`.
    val_share, seed: of the parts of each class kept for validation, and how they are drawn, where a layout has no
        official split (MFCAD, FabWave).
    num_reference, num_points, near_share: see `pipeline.data.brep.faces.sample`.
    max_faces, max_face_edges: of a simple part, and of its faces; others are rejected, as the authors do.
    expect: numbers of `train` and `val` parts and of `classes`, checked before files are read; null: none.
    max_reject_share: largest share of its files that may be unusable.
    num_workers: processes that read.
    shard_mib: size of a pack's shards; 0 for one a file.
    """

    root: str | None
    layout: str
    val_share: Share
    seed: Seed
    num_reference: Count
    num_points: Count
    near_share: Fraction
    max_faces: Count
    max_face_edges: Count
    expect: Mapping[str, Natural] | None
    max_reject_share: Fraction
    num_workers: Count
    shard_mib: Natural


class Item(NamedTuple):
    """One part of a set: its file below the root, its class, and the file of its faces' labels."""

    path: str
    label: int = -1
    truth: str | None = None


class Listed(NamedTuple):
    """What a layout says: parts by split, names of the classes of faces and of parts, where there are such."""

    splits: dict[str, list[Item]]
    faces: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()


def prepare(options: Options, work: Path, files: Path, names: Sequence[str] = MFCAD_NAMES) -> dict[str, Any]:
    """Reads, samples and packs the parts.

    Args:
        names: of the classes of faces, for sets in MFCAD's layout.

    Raises:
        ConfigError: the root, its layout, its counts or too many of its files are not as they should be.
    """
    if options.layout not in LAYOUTS:
        raise ConfigError(f"layout is {options.layout!r}; available: {sorted(LAYOUTS)}")
    if options.num_reference < options.num_points:
        raise ConfigError(f"num_reference is {options.num_reference}; expected at least num_points, "
                          f"{options.num_points}, which are chosen among them")  # fmt: skip
    needed, expected, list_parts = LAYOUTS[options.layout]
    root = check_root(options.root, "root", expected, needed)
    listed = list_parts(root, options, names)
    for split, items in listed.splits.items():
        if not items:
            raise ConfigError(f"root is {str(root)!r}, which has no parts to {split}. {expected}")
    classes = listed.faces or listed.parts
    check_counts("root", root, options.expect,
                 {"classes": len(classes), **{name: len(items) for name, items in listed.splits.items()}})  # fmt: skip
    sampling = Sampling(num_reference=options.num_reference, num_points=options.num_points,
                        near_share=options.near_share, most_faces=options.max_faces,
                        most_edges=options.max_face_edges)  # fmt: skip
    read, findings, splits = Apart(read_part, SECONDS), Findings(), {}
    for split, items in listed.splits.items():
        with PackWriter(files, split, options.shard_mib * 2**20) as pack:
            for item, (part, labels) in look_at(
                items,
                name=lambda item: item.path,
                look=lambda item: _look(root, item, read, sampling, len(listed.faces)),
                notes=lambda seen: _notes(seen[0]),
                findings=findings,
                num_workers=options.num_workers,
                what=f"packing {split}",
                packs=(pack,),
                journal=journal_of(work, split),
            ):
                data = save({**part.arrays, "labels": np.array(labels, np.int32)})
                pack.add(item.path, data, label=item.label)
            splits[split] = {"count": len(pack)}
    read.close()
    told = {"faces": listed.faces, "parts": listed.parts}
    (files / "classes.json").write_text(json.dumps(told) + "\n")
    return {"splits": splits, "classes": list(classes), **findings.close(files, str(root), options.max_reject_share)}


def _look(
    root: Path, item: Item, read: Callable[..., Part], sampling: Sampling, num_labels: int
) -> tuple[Part, list[int]]:
    """A part and the labels of its faces, -1 where they have none. Raises ValueError or OSError if it is unusable."""
    part = read(read_file(root, root / item.path, MOST_BYTES), sampling)
    if item.truth is None:
        return part, [-1] * len(part.names)
    truth = read_file(root, root / item.truth, MOST_BYTES)
    labels = _mfcad_labels(truth, part.names) if item.truth.endswith(".face_truth") else _seg_labels(truth)
    if len(labels) != len(part.names):
        raise ValueError(f"{len(labels)} labels for {len(part.names)} faces")
    if wrong := [label for label in labels if not 0 <= label < num_labels]:
        raise ValueError(f"a label is {wrong[0]}; expected 0 to {num_labels - 1}")
    return part, labels


def _notes(part: Part) -> tuple[str, ...]:
    return (f"{part.unknown} faces on surfaces of other kinds, of which encoders see nothing",) if part.unknown else ()


class _Numbers(pickle.Unpickler):
    """Reads lists of numbers; a pickle that names a class is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise ValueError(f"its labels name {module}.{name}; expected a list of numbers")


def _mfcad_labels(data: bytes, names: Sequence[str]) -> list[int]:
    """A pickled list; the name of a face in the STEP file is its place there."""
    try:
        truth = _Numbers(io.BytesIO(data)).load()
        labels = [truth[int(name)] for name in names]
    except Exception as error:  # broken pickles raise nearly anything
        told = str(error) if isinstance(error, ValueError) else type(error).__name__
        raise ValueError(f"its labels cannot be read: {told}") from None
    if not all(type(label) is int for label in labels):
        raise ValueError("its labels are no whole numbers")
    return labels


def _seg_labels(data: bytes) -> list[int]:
    """Lines of numbers, in the order of the faces."""
    return [int(line) for line in data.decode().split()]


def _mfcad(root: Path, options: Options, names: Sequence[str]) -> Listed:
    found = [Item(f"dataset/step/{path}", truth=f"dataset/step/{os.path.splitext(path)[0]}.face_truth")
             for path in _files(root, "dataset/step")]  # fmt: skip
    return Listed(_drawn(found, options), faces=tuple(names))


def _fusion360(root: Path, options: Options, names: Sequence[str]) -> Listed:
    path = root / "train_test.json"
    expected = LAYOUTS["fusion360"][1]
    try:
        lists = json.loads(read_text(root, path, expected))
        splits = {split: [str(name) for name in lists[key]] for split, key in (("train", "train"), ("val", "test"))}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ConfigError(f"{path} is no object with the lists train and test; copy it again. {expected}") from None
    known = {os.path.splitext(path)[0]: path for path in _files(root, "breps/step")}
    return Listed(
        {split: [Item(f"breps/step/{known.get(name, f'{name}.step')}", truth=f"breps/seg/{name}.seg")
                 for name in listed] for split, listed in splits.items()},
        faces=FUSION_NAMES,
    )  # fmt: skip


def _fabwave(root: Path, options: Options, names: Sequence[str]) -> Listed:
    """`<class>/STEP/*.stp`, or right in the class's folder; one that holds no such file is no class."""
    by_class: dict[str, list[str]] = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        place = f"{folder.name}/STEP" if (folder / "STEP").is_dir() else folder.name
        if paths := _files(root, place):
            by_class[folder.name] = [f"{place}/{path}" for path in paths]
    items = [Item(path, label) for label, paths in enumerate(by_class.values()) for path in paths]
    return Listed(_drawn(items, options), parts=tuple(by_class))


def _files(root: Path, folder: str) -> list[str]:
    return sorted(path.name for path in (root / folder).iterdir() if path.suffix.lower() in SUFFIXES)


def _drawn(items: Sequence[Item], options: Options) -> dict[str, list[Item]]:
    """A split drawn by seed within each class, at least one part of each to train."""
    rng, val = np.random.default_rng([options.seed, 21]), set()
    for label in sorted({item.label for item in items}):
        mine = [item.path for item in items if item.label == label]
        count = min(len(mine) - 1, round(options.val_share * len(mine)))
        val |= {mine[place] for place in rng.permutation(len(mine))[:count]}
    return {"train": [item for item in items if item.path not in val],
            "val": [item for item in items if item.path in val]}  # fmt: skip


# For each layout what must be there, what is expected and where it is to be had, and the reader of its lists.
LAYOUTS: dict[str, tuple[tuple[str, ...], str, Callable[[Path, Options, Sequence[str]], Listed]]] = {
    "mfcad": (
        ("dataset/step",),
        "Expected: dataset/step/<features>.step beside <features>.face_truth, as in the repository hducg/MFCAD",
        _mfcad,
    ),
    "fusion360": (
        ("train_test.json", "breps/step", "breps/seg"),
        "Expected: train_test.json, breps/step/<name>.stp and breps/seg/<name>.seg, "
        "from the segmentation of AutodeskAILab/Fusion360GalleryDataset, s2.0.0",
        _fusion360,
    ),
    "fabwave": (
        (),
        "Expected: <class>/STEP/*.stp. FabWave is to be had from its owners at North Carolina State University",
        _fabwave,
    ),
}
