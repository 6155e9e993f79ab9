"""Studies: each key gone or of another type, and what YAML can do."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from pipeline.config import load_study
from tests import small
from tests.hostile.entry import Entry
from tests.hostile.mutations import cuts, mutations
from tests.hostile.trees import CANARY

FILE = "config/small.yaml"
STUDY = {**small.STUDY, "cluster": {"pretrain": {"nodes": 2, "gpus": 2, "hours": 3}}}


def study(content: bytes | str) -> Callable[[Path], None]:
    """Write the study over that of a small made-up project, and load it and all its settings."""

    def act(folder: Path) -> None:
        small.write_project(folder)
        path = folder / FILE
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        load_study(FILE)

    return act


def special(make: Callable[[Path], Any]) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        small.write_project(folder)
        (folder / FILE).unlink()
        make(folder / FILE)
        load_study(FILE)

    return act


def texts() -> Iterator[tuple[str, str | bytes]]:
    whole = yaml.safe_dump(STUDY, sort_keys=False)
    letters = "abcdefghijklmnop"
    levels = "".join(f"{b}: &{b} [{', '.join(['*' + a] * 9)}]\n" for a, b in itertools.pairwise(letters))
    merges = "".join(f"{b}: &{b} {{<<: [{', '.join(['*' + a] * 9)}]}}\n" for a, b in itertools.pairwise(letters))
    yield "asks for os.system", f"a: !!python/object/apply:os.system ['touch {CANARY}']\n{whole}"
    yield "asks for a new object", f"a: !!python/object/new:subprocess.Popen [['touch', '{CANARY}']]\n{whole}"
    yield "names a module", f"a: !!python/module:antigravity\n{whole}"
    yield "has a tag of its own", f"a: !mine {{b: 1}}\n{whole}"
    yield "laughs a billion times", f"a: &a [x, x]\n{levels}{whole}"
    yield "merges a billion times", f"a: &a {{x: 1}}\n{merges}{whole}"
    yield "merges again and again", f"a: &a {{x: 1}}\nb: {{<<: *a, <<: *a}}\n{whole}"
    yield "holds itself", f"a: &a [*a]\n{whole}"
    yield "merges itself", f"a: &a {{<<: *a}}\n{whole}"
    yield "nests lists without end", "[" * 100_000
    yield "nests mappings without end", "{a: " * 100_000
    yield "is 2 MiB long", whole + "# " + "x" * 2**21
    yield "has a number of 10,000 digits", whole.replace("seeds:\n- 0", f"seeds:\n- {'9' * 10_000}")
    yield "has a date that is none", f"a: 2020-13-45\n{whole}"
    yield "has a bad timestamp", f"a: !!timestamp x\n{whole}"
    yield "has a bad binary", f"a: !!binary x\n{whole}"
    yield "has a key of a list", f"? [a, b]\n: c\n{whole}"
    yield "has an unknown key", f"extra: 1\n{whole}"
    yield "is two documents", f"{whole}---\n{whole}"
    yield "is a list", "- a\n"
    yield "is a word", "study\n"
    yield "is empty", ""
    yield "has tabs", whole.replace("  ", "\t")
    yield "has zeros", whole + "\0"
    yield "is no UTF-8", whole.encode() + b"\xff\xfe\xfa"
    yield "is UTF-16 of odd length", whole.encode("utf-16") + b"x"
    yield "is bytes", bytes(range(256))
    yield "is JSON cut short", '{"scale": "demo", "seeds": [0'
    yield "has an alias to nothing", f"a: *b\n{whole}"


# What a study may leave out, or write in another way.
FREE = (
    "cluster",
    "data.digits.",
    "data.scenes.",
    "tasks.detect.runs is gone",
    "tasks.detect is gone",
    "tasks.knn is gone",
    "runs.mae-r50.set",
    "runs.mae-r50 is gone",
    "tasks is {}",
    "runs.random is gone",
    "data.scenes is gone",
    "tasks.detect.runs.0 is gone",
    "tasks.knn.seeds.0 is gone",
    "tasks.detect.seeds",
    "seeds.0",
)

ENTRIES = [
    *(
        Entry(
            name=f"study: {name}", act=study(yaml.safe_dump(content, sort_keys=False)), harmless=name.startswith(FREE)
        )
        for name, content in mutations(STUDY)
    ),
    *(Entry(name=f"study: one that {name}", act=study(content)) for name, content in texts()),
    *(
        Entry(name=f"study {name}", act=study(content), harmless=True)
        for name, content in cuts(yaml.safe_dump(STUDY, sort_keys=False).encode())
    ),
    *(
        Entry(name=f"study: it is {name}", act=special(make), file=FILE)
        for name, make in {
            "a FIFO": os.mkfifo,
            "a folder": Path.mkdir,
            "a link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
            "a link to itself": lambda path: path.symlink_to(path.name),
            "a link to nothing": lambda path: path.symlink_to("nothing"),
        }.items()
    ),
]
