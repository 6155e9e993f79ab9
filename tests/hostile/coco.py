"""COCO's annotation files: each key gone or of another type, and entries that contradict each other."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.hostile.entry import Entry
from tests.hostile.mutations import cuts, mutations, noise
from tests.hostile.trees import Spoil, annotations, prepare, put, strange

FILE = "annotations/instances_train2017.json"
# What nothing reads, and an object that is not there.
READ_BY_NOBODY = ("info", "categories.0.supercategory", "annotations.0 is gone")
# Another number is as good; and an image that is not as large as the file says is a counted reject.
NUMBERS = ("annotations.0.area", "annotations.0.bbox.", "annotations.0.segmentation.0.0")


def content(data: Any) -> Spoil:
    return lambda root: put(root / FILE, data if isinstance(data, bytes) else json.dumps(data))


def changed(change: Callable[[dict[str, Any]], Any]) -> Spoil:
    whole = annotations()
    change(whole)
    return content(whole)


def thing(**changes: Any) -> Spoil:
    return changed(lambda whole: whole["annotations"][0].update(changes))


def contradictions() -> Iterator[tuple[str, Spoil]]:
    def set_all(whole: dict[str, Any], kind: str, key: str, value: Any) -> None:
        for entry in whole[kind]:
            entry[key] = value

    for kind, key in (("images", "id"), ("images", "file_name"), ("annotations", "id"), ("categories", "id")):
        same = annotations()[kind][0][key]
        yield f"{kind} of one {key}", changed(lambda w, k=kind, n=key, s=same: set_all(w, k, n, s))
    yield "categories of one name", changed(lambda whole: set_all(whole, "categories", "name", "cup"))
    for kind in ("images", "annotations", "categories"):
        yield f"no {kind}", changed(lambda whole, kind=kind: whole[kind].clear())
    yield "nothing but crowds", changed(lambda whole: set_all(whole, "annotations", "iscrowd", 1))
    yield "a crowd of two", thing(iscrowd=2)
    yield "an unknown image", thing(image_id=99)
    yield "an unknown category", thing(category_id=99)
    for name, box in {
        "of corners": [6, 6, 14, 14],
        "left of the picture": [-20, 3, 10, 8],
        "below the picture": [2, 300, 10, 8],
        "of negative width": [12, 3, -10, 8],
        "of three numbers": [2, 3, 10],
        "of five numbers": [2, 3, 10, 8, 1],
        "without end": [0, 0, 1e300, 8],
        "of words": ["2", "3", "10", "8"],
    }.items():
        yield f"a box {name}", thing(bbox=box)
    yield "a negative area", thing(area=-1)
    for name, mask in {
        "no polygons": [],
        "an empty polygon": [[]],
        "a polygon of two corners": [[2, 3, 12, 11]],
        "a polygon of an odd number": [[2, 3, 12, 3, 12, 11, 2]],
        "a polygon of words": [["a"] * 6],
        "a polygon far away": [[0, 0, 1e9, 0, 1e9, 1e9]],
        "a polygon far below": [[0, 0, -1e9, 0, 5, -1e9]],
        "runs of another size": {"size": [17, 16], "counts": [272]},
        "runs that end too early": {"size": [16, 16], "counts": [40]},
        "runs that end too late": {"size": [16, 16], "counts": [2**31]},
        "runs below zero": {"size": [16, 16], "counts": [300, -44]},
        "runs of fractions": {"size": [16, 16], "counts": [40.5, 215.5]},
        "runs without counts": {"size": [16, 16]},
        "runs without a size": {"counts": [256]},
        "compressed noise": {"size": [16, 16], "counts": "zzzz~~~~"},
        "compressed runs without end": {"size": [16, 16], "counts": "o" * 200},
        "compressed runs too long": {"size": [16, 16], "counts": "PPPPPPP9"},
        "compressed runs of nothing": {"size": [16, 16], "counts": ""},
    }.items():
        yield f"a mask of {name}", thing(segmentation=mask)
    for side in (0, -1, 2**16, 2**31):
        yield f"a picture {side} wide", changed(lambda whole, side=side: set_all(whole, "images", "width", side))
    for name in ("../../etc/passwd", "/etc/passwd", "..", ".", "a\nb.jpg", "a\0b.jpg", "", "n" * 300):
        yield f"an image called {name[:20]!r}", changed(lambda w, n=name: w["images"][0].update(file_name=n))


def texts() -> Iterator[tuple[str, bytes]]:
    whole = json.dumps(annotations()).encode()
    yield from cuts(whole)
    yield "lists in lists without end", b"[" * 200_000
    yield "mappings in mappings without end", b'{"a":' * 200_000
    yield "UTF-16", json.dumps(annotations()).encode("utf-16")[:-1]
    yield "no text", bytes(range(256))
    yield "not a number", whole.replace(b"80", b"NaN")
    yield "infinity", whole.replace(b"80", b"Infinity")
    yield "a number of 10,000 digits", whole.replace(b"80", b"8" * 10_000)
    yield "a number beyond all floats", whole.replace(b"80", b"1e999")
    yield "a list", b"[]"
    yield "a word", b'"images"'
    yield "nothing at all", b"null"
    yield "captions", json.dumps({"images": [], "annotations": [{"caption": "a"}]}).encode()
    yield "Python", whole.replace(b'"', b"'")
    yield "a pickle", b"\x80\x04\x95" + bytes(40)


def outcome_free(name: str) -> bool:
    place = name.split(" ")[0]
    number = name.endswith(("an int", "a float")) and "-1" not in name
    return name.startswith(READ_BY_NOBODY) or (place.startswith(NUMBERS) and (number or "0.5" in name))


def whole_folder_out(root: Path) -> None:
    (root / "train2017").rename(root.parent / "away")
    (root / "train2017").symlink_to(root.parent / "away")


ENTRIES = [
    *(
        Entry(name=f"COCO: {name}", act=prepare("coco", content(data)), file=FILE, harmless=outcome_free(name))
        for name, data in mutations(annotations())
    ),
    *(Entry(name=f"COCO: {name}", act=prepare("coco", spoil), file="train2017") for name, spoil in contradictions()),
    *(Entry(name=f"COCO: {name}", act=prepare("coco", content(data)), file=FILE) for name, data in texts()),
    *(
        Entry(name=f"COCO: {name}", act=prepare("coco", content(data)), file=FILE, harmless=True)
        for name, data in noise(json.dumps(annotations()).encode(), length=3)
    ),
    *(
        Entry(name=f"COCO: annotations are {name}", act=prepare("coco", spoil), file=FILE)
        for name, spoil in strange(FILE)
    ),
    *(
        Entry(name=f"COCO: a picture is {name}", act=prepare("coco", spoil), file="train2017/7.jpg")
        for name, spoil in strange("train2017/7.jpg")
    ),
    Entry(name="COCO: the pictures lie elsewhere", act=prepare("coco", whole_folder_out), file="train2017"),
]
