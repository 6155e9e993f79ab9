"""Pictures of the manifests, small enough to travel inside the page.

A picture that is small already is inlined byte for byte as its manifest vouches for it; larger ones are
scaled and written as WebP. All pictures of a report share one budget: when they exceed it, all of them get
coarser.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from pipeline.report import words
from pipeline.report.grid import Grid, Outcome

BUDGET = 2_500_000  # bytes of all pictures together, so that the page stays below 5 MB
SMALL = 120_000  # bytes up to which a picture is inlined untouched
LADDER = ((1400, 85), (1100, 78), (800, 70), (600, 60))  # longest side and WebP quality, finest first
_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture as the page holds it: `uri` is a data URI, `size` its width and height in pixels."""

    stage: str
    run: str
    seed: int
    evidence: str
    caption: str
    uri: str
    size: tuple[int, int]


def find_pictures(grid: Grid, budget: int = BUDGET) -> list[Picture]:
    """The pictures of each run and stage, of its first seed that is done, in the study's order."""
    chosen = []
    for stage in dict.fromkeys(outcome.stage for outcome in grid.outcomes):
        for run in grid.study.runs:
            for outcome in grid.select(stage, run, "done")[:1]:
                pairs = ((outcome.artefact(entry["path"]), entry["caption"]) for entry in _listed(outcome))
                chosen += [(outcome, path, caption) for path, caption in pairs if path is not None]
    encoded = _encode([path for _, path, _ in chosen], budget)
    return [
        Picture(stage=o.stage, run=o.run, seed=o.seed, evidence=o.key, caption=caption, uri=uri, size=size)
        for (o, _, caption), (uri, size) in zip(chosen, encoded, strict=True)
    ]


def group_pictures(pictures: Sequence[Picture]) -> list[tuple[str, list[Picture]]]:
    """Pictures under the full name of their stage."""
    stages = dict.fromkeys(picture.stage for picture in pictures)
    return [(words.stage(stage), [picture for picture in pictures if picture.stage == stage]) for stage in stages]


def _listed(outcome: Outcome) -> list[dict[str, str]]:
    return list(outcome.manifest.get("pictures") or [])


def _encode(paths: Sequence[Path], budget: int) -> list[tuple[str, tuple[int, int]]]:
    for side, quality in LADDER:
        found = [_one(path, side, quality) for path in paths]
        if sum(len(uri) for uri, _ in found) <= budget:
            break
    return found if paths else []


def _one(path: Path, side: int, quality: int) -> tuple[str, tuple[int, int]]:
    content = path.read_bytes()
    with Image.open(io.BytesIO(content)) as image:
        kind, size = _TYPES.get(image.format or ""), image.size
        if kind is None or len(content) > SMALL or side < LADDER[0][0]:
            image.thumbnail((side, side), Image.Resampling.LANCZOS)
            stream = io.BytesIO()
            image.convert("RGB").save(stream, "WEBP", quality=quality, method=6)
            if kind is None or len(stream.getvalue()) < len(content):
                content, kind, size = stream.getvalue(), "image/webp", image.size
    return f"data:{kind};base64,{base64.b64encode(content).decode()}", size
