"""The journal of a packing: what the packs of a split hold already, so that an attempt that was cut off goes on.

A line says which files are to be packed, then one line for each block of them what became of it, each line beside its
digest. A block's line is written once its bytes are on disk; whatever the packs hold beyond the last line is cut away.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Any, TextIO

from pipeline.data.packed import PackWriter
from pipeline.manifest import digest

Block = dict[str, Any]  # number of files, rejects and notes as [position, words], and each pack's rows


class Journal:
    """Keeps several packs in step.

    Args:
        path: of the journal.
        packs: that are written together.
        names: of all the files that are to be packed, in order; a journal of others counts for nothing.
    """

    def __init__(self, path: Path, packs: Sequence[PackWriter], names: Iterable[str]) -> None:
        self.path, self.packs = path, packs
        text = "\n".join([*(f"{pack.split} {pack.shard_bytes}" for pack in packs), *names])
        self._head = {"files": hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()}
        self._file: TextIO | None = None

    def read(self) -> list[Block]:
        """The blocks that were packed, as far as the shards still hold them."""
        lines: list[Block] = []
        with suppress(OSError, ValueError, TypeError), self.path.open() as file:  # the last line may be cut off
            for text in file:
                sealed, line = json.loads(text)
                if sealed != _digest(line):
                    break
                lines.append(line)
        if lines[:1] != [self._head]:
            return []
        return list(takewhile(lambda block: all(map(PackWriter.holds, self.packs, block["rows"])), lines[1:]))

    def go_on(self, blocks: Sequence[Block]) -> None:
        """Begins after these blocks: packs and journal are cut to them."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(".new")
        self._file = fresh.open("w")
        self._write(self._head, *blocks)
        os.replace(fresh, self.path)
        for place, pack in enumerate(self.packs):
            pack.restore([row for block in blocks for row in block["rows"][place]])

    def add(self, block: Block) -> None:
        """Notes a block, once what the packs hold of it is safe."""
        self._write({**block, "rows": [pack.checkpoint() for pack in self.packs]})

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _write(self, *lines: Block) -> None:
        assert self._file is not None
        self._file.writelines(json.dumps([_digest(line), line], separators=(",", ":")) + "\n" for line in lines)
        self._file.flush()
        os.fsync(self._file.fileno())


def _digest(line: Block) -> str:
    return digest(line)[:16]
