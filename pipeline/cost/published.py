"""Wall clocks that were published beside those that are planned: `config/costs/wallclocks.yaml`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline.config.heads import PROTOCOL_HEAD, PROTOCOLS, RECIPE_HEAD, RECIPES
from pipeline.config.sections import section
from pipeline.cost.estimate import hours_of
from pipeline.cost.work import measuring, step_of, training
from pipeline.devices import DEVICES

WALLCLOCKS = Path("config/costs/wallclocks.yaml")
TOLERANCE = 0.2


@dataclass(frozen=True, kw_only=True)
class Wallclock:
    """One published wall clock: what was trained, on what, by whom it is told, and the hours published and planned."""

    of: str
    on: str
    source: str
    published: float
    planned: float

    @property
    def difference(self) -> float:
        """Planned over published, less one."""
        return self.planned / self.published - 1

    @property
    def within(self) -> bool:
        return abs(self.difference) <= TOLERANCE


def wallclocks() -> Iterator[Wallclock]:
    """All of them, in the file's order."""
    for entry in yaml.safe_load(WALLCLOCKS.read_text()):
        devices = entry["devices"]
        number, name, precision = devices["number"], devices["device"], devices["precision"]
        yield Wallclock(
            of=entry["of"],
            on=f"{number} {name}, {precision}",
            source=entry["source"],
            published=entry["hours"],
            planned=hours_of(_flops(entry), number, DEVICES[name], precision),
        )


def table() -> str:
    """The table of the documentation, in Markdown."""
    rows = ["| what | on | published, h | planned, h | difference | source |", "|---|---|---:|---:|---:|---|"]
    for row in wallclocks():
        difference = f"{100 * row.difference:+.0f} %" + ("" if row.within else ", **outside**")
        cells = (row.of, row.on, f"{row.published:g}", f"{row.planned:.1f}", difference, row.source)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _flops(entry: Mapping[str, Any]) -> float:
    counts = {"train": entry["samples"], "val": 0, "classes": 1}
    if "protocol" in entry:
        path = PROTOCOLS / f"{entry['protocol']}.yaml"
        settings = section(path, PROTOCOL_HEAD, "paper", {}, str(WALLCLOCKS), model=entry["model"])
        return measuring(settings, entry["model"], counts, moves=True).flops
    path = RECIPES / f"{entry['recipe']}.yaml"
    settings = section(path, RECIPE_HEAD, "paper", entry.get("set", {}), str(WALLCLOCKS))
    settings["method"] = "supervised" if entry["recipe"] == "supervised_video" else entry["recipe"]
    if entry.get("sees_all"):
        settings["options"]["mask_ratio"] = 0.0
    return training(settings, step_of(settings, None), entry["samples"]).flops
