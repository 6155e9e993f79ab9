"""Pictures of the manifests, small enough to travel inside the page.

A picture that is small already is inlined byte for byte as its manifest vouches for it; larger ones are
scaled and written as WebP. All pictures of a report share one budget: when they exceed it, all of them get
coarser. Files beside the page, which need no such thrift, are JPEG: a tenth of WebP's time for a third more bytes.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from PIL import Image

from pipeline.config import Study
from pipeline.report.grid import Grid, Outcome

BUDGET = 2_500_000  # bytes of all pictures together at most
SMALL = 120_000  # bytes up to which a picture is inlined untouched
# Longest side and WebP quality, finest first; a study of a hundred runs needs the last.
LADDER = ((1400, 85), (1100, 78), (800, 70), (600, 60), (400, 50), (300, 45))
BESIDE = (1400, 90)  # of files beside the page
OPTIONS: Any = {
    "WEBP": {"method": 2},  # half of the time of its default, 4, for a few percent more bytes
    "JPEG": {"subsampling": 0},  # thin coloured lines, such as boxes, stay sharp
}
SNAPSHOT = re.compile(r"snapshot-(\d+)\.png$")  # drawn at this step of the training
_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture as the page holds it: `uri` is a data URI, `size` its width and height in pixels.

    `step` is that of the training at which it was drawn, None for pictures of the result.
    """

    stage: str
    run: str
    seed: int
    evidence: str
    caption: str
    uri: str
    size: tuple[int, int]
    step: int | None = None


def find_pictures(grid: Grid, budget: int = BUDGET) -> list[Picture]:
    """The pictures of each run and stage, of its first seed that is done, in the study's order.

    What would not fit the budget however coarse is left out: all runs but the first of each method and model.
    """
    chosen = choose_pictures(grid)
    encoded = _encode([path for _, path, _ in chosen], budget)
    if encoded is None:
        first: dict[tuple[Any, ...], str] = {}
        for outcome, _, _ in chosen:
            first.setdefault(_kind(grid, outcome), outcome.run)
        chosen = [entry for entry in chosen if first[_kind(grid, entry[0])] == entry[0].run]
        paths = [path for _, path, _ in chosen]
        encoded = _encode(paths, budget) or [_one(path, *LADDER[-1]) for path in paths]
    return [_picture(*entry, *one) for entry, one in zip(chosen, encoded, strict=True)]


def write_pictures(grid: Grid, folder: Path) -> list[Picture]:
    """The pictures of each run and stage as files of a folder, named by their content; `uri` is `<folder>/<file>`."""
    found = []
    for outcome, path, caption in choose_pictures(grid):
        content, kind, size = _files(grid)[path]
        file = folder / f"{sha256(content).hexdigest()[:16]}.{kind.removeprefix('image/')}"
        file.write_bytes(content)
        found.append(_picture(outcome, path, caption, f"{folder.name}/{file.name}", size))
    return found


def choose_pictures(grid: Grid) -> list[tuple[Outcome, Path, str]]:
    """Cell, file and caption of every whole picture of each run's first seed that is done."""
    return [entry for entry in _listed(grid) if entry[1] in _files(grid)]


def broken_pictures(grid: Grid) -> frozenset[Path]:
    """The files among those to be shown that hold no whole picture of a kind that a page shows."""
    return frozenset(path for _, path, _ in _listed(grid)) - _files(grid).keys()


def step(path: Path) -> int | None:
    """The step in a snapshot's name: 125 for `snapshot-000125.png`."""
    found = SNAPSHOT.search(path.name)
    return int(found[1]) if found else None


def group_pictures(study: Study, pictures: Sequence[Picture]) -> list[tuple[str, list[Picture]]]:
    """Pictures under the full name of their stage, and those of one run's training in the order of their steps."""
    groups: dict[str, list[Picture]] = {}
    for stage in dict.fromkeys(picture.stage for picture in pictures):
        own = [picture for picture in pictures if picture.stage == stage]
        groups[study.title(stage)] = [picture for picture in own if picture.step is None]
        for picture in sorted(own, key=lambda picture: picture.step or 0):
            if picture.step is not None:
                groups.setdefault(f"{picture.run}: masks over training", []).append(picture)
    return [(title, group) for title, group in groups.items() if group]


def _listed(grid: Grid) -> list[tuple[Outcome, Path, str]]:
    """Cell, file and caption of every picture that the manifest of each run's first seed that is done vouches for."""
    listed = []
    for stage in dict.fromkeys(outcome.stage for outcome in grid.outcomes):
        for run in grid.study.runs:
            for outcome in grid.select(stage, run, "done")[:1]:
                entries = outcome.manifest.get("pictures") or []
                pairs = ((outcome.artefact(entry["path"]), entry["caption"]) for entry in entries)
                listed += [(outcome, path, caption) for path, caption in pairs if path]
    return listed


def _files(grid: Grid) -> Mapping[Path, tuple[bytes, str, tuple[int, int]]]:
    """Bytes, media type and size of every whole picture, as fine as a file beside the page has it."""

    def look() -> dict[Path, tuple[bytes, str, tuple[int, int]]]:
        found = {}
        for _, path, _ in _listed(grid):
            with suppress(Exception):  # broken files make the decoders raise nearly anything
                found[path] = _scaled(path, *BESIDE, "JPEG")
        return found

    return grid.once(("pictures",), look)


def _picture(outcome: Outcome, path: Path, caption: str, uri: str, size: tuple[int, int]) -> Picture:
    return Picture(
        stage=outcome.stage,
        run=outcome.run,
        seed=outcome.seed,
        evidence=outcome.key,
        caption=caption,
        uri=uri,
        size=size,
        step=step(path),
    )


def _kind(grid: Grid, outcome: Outcome) -> tuple[Any, ...]:
    return outcome.stage, *(grid.traits[outcome.run].get(key) for key in ("method", "model"))


def _encode(paths: Sequence[Path], budget: int) -> list[tuple[str, tuple[int, int]]] | None:
    """Data URIs and sizes, as fine as the budget allows, None where it allows none.

    A few of many pictures tell whether to try at all.
    """
    few = paths[:: 1 + len(paths) // 8]
    for side, quality in LADDER:
        last = (side, quality) == LADDER[-1]
        sample = 0 if last or len(few) == len(paths) else sum(len(_one(path, side, quality)[0]) for path in few)
        if sample * len(paths) <= budget * len(few):
            found, left = [], budget
            for path in paths:
                found.append(_one(path, side, quality))
                left -= len(found[-1][0])
                if left < 0:
                    break
            else:
                return found
    return None


def _one(path: Path, side: int, quality: int) -> tuple[str, tuple[int, int]]:
    content, kind, size = _scaled(path, side, quality)
    return f"data:{kind};base64,{base64.b64encode(content).decode()}", size


def _scaled(path: Path, side: int, quality: int, form: str = "WEBP") -> tuple[bytes, str, tuple[int, int]]:
    """A picture's bytes, media type and size, at most so fine; one that is small already stays as it is."""
    content = path.read_bytes()
    with Image.open(io.BytesIO(content), formats=list(_TYPES)) as image:
        kind, size = _TYPES.get(image.format or ""), image.size
        if kind is None or len(content) > SMALL or side < LADDER[0][0]:
            image.thumbnail((side, side), Image.Resampling.LANCZOS)
            stream = io.BytesIO()
            image.convert("RGB").save(stream, form, quality=quality, **OPTIONS[form])
            if kind is None or len(stream.getvalue()) < len(content):
                content, kind, size = stream.getvalue(), _TYPES[form], image.size
        else:
            image.load()  # which tells whether it is whole
    return content, kind, size
