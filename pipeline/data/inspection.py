"""Looking at every file of a data set before it is packed: the unreadable is rejected, the odd is noted.

A reject is left out of the packs. What is noted stays in them, because readers go by content: a CMYK JPEG is
converted when it is decoded, and a PNG named `.JPEG` (ImageNet has both) is read as the PNG it is.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pipeline.config import ConfigError
from pipeline.data.pictures import open_whole
from pipeline.data.progress import track

FORMATS = {".jpeg": "JPEG", ".jpg": "JPEG", ".png": "PNG"}
_BLOCK = 512  # files whose bytes are held at once
_SHOWN = 20  # names in a manifest; all of them are in files/findings.json
_PLAIN = {"RGB", "L"}

Item = TypeVar("Item")
Seen = TypeVar("Seen")


@dataclass(frozen=True)
class Picture:
    """A file that holds a whole image: its bytes, its size in pixels and what is odd about it."""

    data: bytes
    height: int
    width: int
    notes: tuple[str, ...]


@dataclass
class Findings:
    """What was found wrong (rejects) and odd (notes), by name of file below the root."""

    rejects: list[dict[str, str]] = field(default_factory=list)
    notes: list[dict[str, str]] = field(default_factory=list)
    looked_at: int = 0

    def reject(self, file: str, reason: str) -> None:
        self.rejects.append({"file": file, "reason": reason})

    def close(self, files: Path, root: str, max_reject_share: float) -> dict[str, Any]:
        """Writes all findings beside the packs and returns the manifest's share of them.

        Raises:
            ConfigError: too large a share was rejected.
        """
        count = len(self.rejects)
        if count > max_reject_share * self.looked_at:
            shown = "; ".join(f"{found['file']} ({found['reason']})" for found in self.rejects[:5])
            raise ConfigError(
                f"{count} of {self.looked_at} files in {root} cannot be used, more than max_reject_share "
                f"{max_reject_share} allows: {shown}{'; ...' if count > 5 else ''}. Copy these files "
                "again, or raise max_reject_share to go on without them"
            )
        both = {"rejects": self.rejects, "notes": self.notes}
        (files / "findings.json").write_text(json.dumps(both, indent=1) + "\n")
        return {kind: {"count": len(found), "first": found[:_SHOWN]} for kind, found in both.items()}


def read_picture(path: Path) -> Picture:
    """Reads a file and decodes it whole.

    Raises:
        ValueError: it is not a whole image.
    """
    data = path.read_bytes()
    image = open_whole(data)
    notes = []
    if image.format != FORMATS.get(path.suffix.lower()):
        notes.append(f"{image.format} named {path.suffix}")
    if image.mode not in _PLAIN:
        notes.append(f"mode {image.mode}, converted to RGB when read")
    return Picture(data, image.height, image.width, tuple(notes))


def look_at(
    items: Sequence[Item],
    name: Callable[[Item], str],
    look: Callable[[Item], Seen],
    notes: Callable[[Seen], Sequence[str]],
    findings: Findings,
    num_workers: int,
    what: str,
) -> Iterator[tuple[Item, Seen]]:
    """Applies `look` to the items in order and yields those it accepts; ValueError and OSError reject one."""

    def attempt(item: Item) -> Seen | ValueError | OSError:
        try:
            return look(item)
        except (ValueError, OSError) as error:
            return error

    def attempts() -> Iterator[tuple[Item, Seen | ValueError | OSError]]:
        if num_workers < 2:
            yield from ((item, attempt(item)) for item in items)
            return
        # Threads suffice: decoders let go of the interpreter. In blocks, so that results do not pile up.
        with ThreadPoolExecutor(num_workers) as pool:
            for start in range(0, len(items), _BLOCK):
                block = items[start : start + _BLOCK]
                yield from zip(block, pool.map(attempt, block), strict=True)

    for item, seen in track(attempts(), what, len(items)):
        findings.looked_at += 1
        if isinstance(seen, (ValueError, OSError)):
            findings.reject(name(item), str(seen))
            continue
        findings.notes += [{"file": name(item), "note": note} for note in notes(seen)]
        yield item, seen
