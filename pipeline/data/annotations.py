"""COCO's instance annotations, checked to the last entry before anything relies on them.

Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014, arXiv:1405.0312; the format of cocodataset.org.
H × W pixels of an image.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle
from typing import Any

from pipeline.config import ConfigError

Entry = dict[str, Any]
ROUNDING = 1.0  # pixels by which a box may stick out, since exporters round its sides
LARGEST = 2**53  # number, up to which every reader of JSON agrees


def parse(data: bytes, path: Any) -> dict[str, list[Entry]]:
    """The content of an annotation file.

    Args:
        data: of the file.
        path: that messages name.

    Returns:
        `images`, `annotations` and `categories`, and whatever else there is; ids are unique, references lead
        somewhere, boxes and masks lie in their images.

    Raises:
        ConfigError: naming file and entry of the first mistake.
    """
    try:
        content = json.loads(data, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not whole JSON ({error}); copy it again") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds a {type(content).__name__}; expected COCO's instance annotations")
    lacking = [key for key in ("images", "annotations", "categories") if key not in content]
    if lacking:
        raise ConfigError(f"{path} lacks {', '.join(lacking)}; expected COCO's instance annotations")
    try:
        _check(content)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    return content


def _check(content: Mapping[str, Any]) -> None:
    categories = _by(content, "categories", "id", {"id": _identity, "name": _name})
    _by(content, "categories", "name", {})
    sides = {"id": _identity, "file_name": _name, "height": _side, "width": _side}
    images = _by(content, "images", "id", sides)
    _by(content, "images", "file_name", {})
    box = {"id": _identity, "image_id": _identity, "category_id": _identity, "iscrowd": _flag}
    _by(content, "annotations", "id", box)
    for where, entry in _entries(content, "annotations"):
        for key, known, kind in (("image_id", images, "images"), ("category_id", categories, "categories")):
            if entry[key] not in known:
                raise ValueError(f"{where}.{key} is {entry[key]}, which none of the {kind} has")
        image = images[entry["image_id"]]
        _check_box(entry, where, image)
        _check_mask(entry, where, image)
    for kind in ("categories", "images"):
        if not content[kind]:
            raise ValueError(f"{kind} is empty")


def _entries(content: Mapping[str, Any], kind: str) -> Iterator[tuple[str, Entry]]:
    """Each entry of a list with its place, `annotations[7]`."""
    if not isinstance(content[kind], list):
        raise ValueError(f"{kind} is {_brief(content[kind])}; expected a list")
    for place, entry in enumerate(content[kind]):
        if not isinstance(entry, dict):
            raise ValueError(f"{kind}[{place}] is {_brief(entry)}; expected a mapping of keys to values")
        yield f"{kind}[{place}]", entry


def _by(
    content: Mapping[str, Any], kind: str, key: str, checks: Mapping[str, Callable[[Any], str | None]]
) -> dict[Any, Entry]:
    """The entries by a key that no two of them share, each checked."""
    found: dict[Any, Entry] = {}
    for where, entry in _entries(content, kind):
        for name, check in checks.items():
            if name not in entry:
                raise ValueError(f"{where} lacks {name!r}; it has {sorted(entry)}")
            if (expected := check(entry[name])) is not None:
                raise ValueError(f"{where}.{name} is {_brief(entry[name])}; expected {expected}")
        if entry[key] in found:
            raise ValueError(f"{where}.{key} is {_brief(entry[key])}, which another of the {kind} has as well")
        found[entry[key]] = entry
    return found


def _check_box(entry: Entry, where: str, image: Entry) -> None:
    for key in ("bbox", "area", "segmentation"):
        if key not in entry:
            raise ValueError(f"{where} lacks {key!r}; it has {sorted(entry)}")
    if not _is_number(entry["area"]) or entry["area"] < 0:
        raise ValueError(f"{where}.area is {_brief(entry['area'])}; expected a number of at least 0")
    box = entry["bbox"]
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)) or min(box[2:]) < 0:
        raise ValueError(f"{where}.bbox is {_brief(box)}; expected [left, top, width, height] in pixels")
    left, top, width, height = box
    least, most = min(left, top), max(left + width - image["width"], top + height - image["height"])
    if least < -ROUNDING or most > ROUNDING:
        raise ValueError(
            f"{where}.bbox is {_brief(box)}, which leaves its image of {image['width']} x {image['height']} pixels; "
            "expected [left, top, width, height] within it"
        )


def _check_mask(entry: Entry, where: str, image: Entry) -> None:
    mask, (height, width) = entry["segmentation"], (image["height"], image["width"])
    if isinstance(mask, list):
        if not mask:
            raise ValueError(f"{where}.segmentation is empty; expected polygons or run lengths")
        for place, polygon in enumerate(mask):
            corners = len(polygon) / 2 if isinstance(polygon, list) and all(map(_is_number, polygon)) else 0
            if corners < 3 or corners % 1:
                raise ValueError(
                    f"{where}.segmentation[{place}] is {_brief(polygon)}; expected x, y of three corners or more"
                )
            # Corners a little outside are cut off; far ones make pycocotools take memory without end.
            pairs = zip(polygon, cycle((width, height)), strict=False)
            if not all(-side <= value <= 2 * side for value, side in pairs):
                raise ValueError(f"{where}.segmentation[{place}] leaves its image of {width} x {height} pixels")
        return
    if not isinstance(mask, dict) or not {"size", "counts"} <= mask.keys():
        raise ValueError(f"{where}.segmentation is {_brief(mask)}; expected polygons or run lengths (size, counts)")
    if mask["size"] != [height, width]:
        raise ValueError(f"{where}.segmentation.size is {_brief(mask['size'])}; expected its image's {[height, width]}")
    counts = mask["counts"]
    runs = _decompressed(counts) if isinstance(counts, str) else counts
    whole = isinstance(runs, list) and all(type(run) is int and run >= 0 for run in runs)
    if not whole or sum(runs) != height * width:
        raise ValueError(
            f"{where}.segmentation.counts is {_brief(counts)}; expected run lengths that sum up to {height * width}"
        )


def _decompressed(text: str) -> list[int]:
    """COCO's compressed run lengths: five bits a character, differences to the run before last from the third on."""
    runs: list[int] = []
    value = shift = 0
    for code in (ord(letter) - 48 for letter in text):
        value |= (code & 31) << shift
        shift += 5
        if not 0 <= code < 64 or shift > 60:
            return [-1]
        if not code & 32:
            value -= (1 << shift) if code & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs if not shift else [-1]


def _identity(value: Any) -> str | None:
    return None if type(value) is int and 0 <= value <= LARGEST else "a whole number of at least 0"


def _side(value: Any) -> str | None:
    return None if type(value) is int and 0 < value < 2**16 else "a number of pixels"


def _flag(value: Any) -> str | None:
    return None if type(value) is int and value in (0, 1) else "0 or 1"


def _name(value: Any) -> str | None:
    return None if isinstance(value, str) and value and value.isprintable() else "a name"


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= LARGEST  # neither nan nor infinite


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _brief(value: Any) -> str:
    told = repr(value[:8] if isinstance(value, Sequence) else value)
    return told if len(told) <= 60 else f"{told[:60]}…"
