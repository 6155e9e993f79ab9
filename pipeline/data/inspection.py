"""Looking at every file of a data set before it is packed: the unreadable is rejected, the odd is noted.

A reject is left out of the packs; what is no regular file of the data set's folder is one without being opened. What
is noted stays in them, because readers go by content: a CMYK JPEG is converted when it is decoded, and a PNG named
`.JPEG` (ImageNet has both) is read as the PNG it is.
"""

import json
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

from pipeline.config import ConfigError
from pipeline.data.journal import Journal
from pipeline.data.outside import read_file
from pipeline.data.packed import PackWriter
from pipeline.data.pictures import open_whole
from pipeline.data.progress import track

FORMATS = {".jpeg": "JPEG", ".jpg": "JPEG", ".png": "PNG"}
MOST_BYTES = 2**26  # of an image file
_BLOCK = 512  # files that are read again after an interruption
_AHEAD = 4  # files a thread may be ahead of the packs, whose bytes are held
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

    def add(self, name: Callable[[int], str], block: Mapping[str, Any]) -> None:
        """What was found in a block of a journal, whose positions `name` turns into names."""
        self.looked_at += block["count"]
        self.rejects += [{"file": name(position), "reason": reason} for position, reason in block["rejects"]]
        self.notes += [{"file": name(position), "note": note} for position, note in block["notes"]]

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


def read_picture(root: Path, path: Path) -> Picture:
    """Reads a file and decodes it whole.

    Args:
        root: of the data set, which the file may not leave.
        path: of the file.

    Raises:
        ValueError: it is not a whole image, or `pipeline.data.outside` refuses it.
    """
    data = read_file(root, path, MOST_BYTES)
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
    num_workers: int | None,
    what: str,
    packs: Sequence[PackWriter],
    journal: Path,
) -> Iterator[tuple[Item, Seen]]:
    """Applies `look` to the items in order and yields those it accepts; ValueError and OSError reject one.

    Items that an attempt which was cut off has packed are not yielded again: `packs`, which the caller fills with
    what is yielded, and `findings` are restored from `journal`, and reading goes on with the next item.

    Args:
        num_workers: threads; None for as many as this process has CPUs.
        what: is being done, such as `packing train`.
    """

    def attempt(item: Item) -> Seen | ValueError | OSError:
        try:
            return look(item)
        except (ValueError, OSError) as error:
            return error

    def still_rejected(position: int, reason: str) -> bool:
        seen = attempt(items[position])
        return isinstance(seen, (ValueError, OSError)) and str(seen) == reason

    def attempts(start: int) -> Iterator[Seen | ValueError | OSError]:
        # Threads suffice: decoders let go of the interpreter. A few ahead, so that results do not pile up.
        threads = num_workers or len(os.sched_getaffinity(0))
        with ThreadPoolExecutor(threads) as pool:
            waiting: deque[Future[Seen | ValueError | OSError]] = deque()
            for position in range(start, len(items)):
                waiting.append(pool.submit(attempt, items[position]))
                if len(waiting) > _AHEAD * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    book = Journal(journal, packs, map(name, items))
    # A reject may have been copied again meanwhile; then all from its block on is read again.
    blocks = list(takewhile(lambda block: all(still_rejected(*reject) for reject in block["rejects"]), book.read()))
    book.go_on(blocks)
    done = sum(block["count"] for block in blocks)
    for block in blocks:
        findings.add(lambda position: name(items[position]), block)
    if done:
        print(f"{what}: {done:,} of {len(items):,} were packed before", file=sys.stderr, flush=True)
    block = _empty_block()
    seen_now = track(attempts(done), what, len(items) - done)
    for position, (item, seen) in enumerate(zip(items[done:], seen_now, strict=True), done):
        block["count"] += 1
        if isinstance(seen, (ValueError, OSError)):
            block["rejects"].append([position, str(seen)])
        else:
            block["notes"] += [[position, note] for note in notes(seen)]
            yield item, seen
        if block["count"] == _BLOCK or position + 1 == len(items):  # the caller has packed what it was given
            book.add(block)
            findings.add(lambda position: name(items[position]), block)
            block = _empty_block()
    book.close()


def _empty_block() -> dict[str, Any]:
    return {"count": 0, "rejects": [], "notes": []}
