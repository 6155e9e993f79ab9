"""Names that a shell, a path, DVC or Snakemake would read in another way: of studies, runs, tasks and sets."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from pipeline import plan
from pipeline.config import load_study
from pipeline.graph import Graph, command
from tests import small
from tests.hostile.entry import Entry
from tests.hostile.trees import CANARY

ODD = (
    f"a$(touch {CANARY})",
    f"a`touch {CANARY}`",
    f"a;touch {CANARY}",
    f"a|touch {CANARY}",
    f"a&touch {CANARY}",
    f"a\ntouch {CANARY}",
    f"a>{CANARY}",
    "a b",
    "a'b",
    'a"b',
    "a\\b",
    "a*",
    "a?",
    "a[b]",
    "a{b}",
    "{run}",
    "${item.run}",
    "~a",
    "!a",
    "#a",
    "%a",
    "a=b",
    "a:b",
    "a@b",
    "a,b",
    "../a",
    "a/b",
    "/a",
    ".",
    "..",
    ".a",
    "-a",
    "--help",
    "",
    " ",
    "a\0b",
    "a\tb",
    "ä",
    "а",
    "a\u202eb",
    "\U0001f600",
    "a" * 300,
)


def whole(study: str = "config/small.yaml") -> None:
    """Load a study; should it be taken, all that is written of it must read as it was meant."""
    found = load_study(study)
    names = ("python", "-m", "stages.report", "--study", study)
    assert tuple(shlex.split(command("report", found))) == names
    for node in Graph(found):
        assert shlex.split(node.command)[:2] == ["python", "-m"] and CANARY not in node.command
    json.dumps(plan.resolve(found))


def path(name: str) -> Callable[[Path], None]:
    """A study in a file, or in a folder, of that name."""

    def act(folder: Path) -> None:
        small.write_project(folder)
        for file in (Path("config") / f"{name}.yaml", Path(f"in{name}") / "small.yaml"):
            try:
                file.parent.mkdir(exist_ok=True, parents=True)
                file.write_text(yaml.safe_dump(small.STUDY))
            except (OSError, ValueError):
                pass  # no file can have the name; it is asked for all the same
        whole(f"config/{name}.yaml")

    return act


def named(kind: str, name: Any) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        small.write_project(folder)
        first = next(iter(small.STUDY[kind]))
        content = small.changed(small.STUDY, f"{kind}/{first}", ...)
        entry = dict(small.STUDY[kind][first])
        if kind == "tasks":
            entry["task"] = first
        content[kind][name] = entry
        small.write_study(folder, content)
        whole()

    return act


ENTRIES = [
    *(Entry(name=f"a study called {name!r:.40}", act=path(name), harmless="/" in name) for name in ODD),
    *(
        Entry(name=f"{kind} called {name!r:.40}", act=named(kind, name))
        for kind in ("runs", "tasks", "data")
        for name in (*ODD, 7, 0.5, True, None)
    ),
]
