"""All records of a study as one tidy table for programs, with a schema: `results.csv` and `results.schema.json`.

One row is one measured number. The schema is a Table Schema (Frictionless Data, version 1), which readers of data
packages understand. Numbers are written so that reading them gives the same floats.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any, NamedTuple

from pipeline.report.grid import Grid, Outcome


class Field(NamedTuple):
    """A column: its type in Table Schema's words, what it says, and where it is read."""

    type: str
    description: str
    read: Callable[[Grid, Outcome, dict[str, Any]], Any]


def _task(grid: Grid, outcome: Outcome, name: str) -> Any:
    return getattr(grid.study.tasks[outcome.stage], name) if outcome.stage in grid.study.tasks else ""


def _data(grid: Grid, outcome: Outcome) -> Any:
    return _task(grid, outcome, "data") or grid.study.runs[outcome.run].data


def _headline(grid: Grid, outcome: Outcome, record: dict[str, Any]) -> bool:
    return outcome.stage in grid.study.tasks and record["metric"] in grid.headline(outcome.stage)


def _end(record: dict[str, Any], index: int) -> Any:
    interval = record.get("interval")
    return None if interval is None else interval[index]


def _part(outcome: Outcome, part: str, key: str) -> Any:
    return outcome.manifest.get(part, {}).get(key)


FIELDS = {
    "study": Field("string", "name of the study", lambda g, o, r: g.study.name),
    "scale": Field("string", "section of recipes and protocols: demo or paper", lambda g, o, r: g.study.scale),
    "stage": Field("string", "pretrain, or the task as the study names it", lambda g, o, r: o.stage),
    "protocol": Field("string", "file of config/tasks/, none for pretraining", lambda g, o, r: _task(g, o, "protocol")),
    "data": Field("string", "set that the stage reads, as the study names it", lambda g, o, r: _data(g, o).name),
    "source": Field("string", "what the set is made from", lambda g, o, r: _data(g, o).source),
    "run": Field("string", "pretraining run, as the study names it", lambda g, o, r: o.run),
    "method": Field("string", "file of config/recipes/", lambda g, o, r: g.study.runs[o.run].method),
    "model": Field("string", "encoder", lambda g, o, r: g.traits[o.run].get("model")),
    "seed": Field("integer", "of pretraining and of the task alike", lambda g, o, r: o.seed),
    "metric": Field("string", "name of the metric", lambda g, o, r: r["metric"]),
    "headline": Field("boolean", "whether it is in the leaderboard", _headline),
    "value": Field("number", "what was measured, in `unit`", lambda g, o, r: r["value"]),
    "unit": Field("string", "% or empty for a plain number", lambda g, o, r: r.get("unit") or ""),
    "higher_is_better": Field("boolean", "direction of the metric", lambda g, o, r: r["higher_is_better"]),
    "low": Field("number", "lower end of the 95 % interval within the cell", lambda g, o, r: _end(r, 0)),
    "high": Field("number", "upper end of the same", lambda g, o, r: _end(r, 1)),
    "count": Field("integer", "items that were tested", lambda g, o, r: r.get("count")),
    "seconds": Field("number", "wall time of the cell", lambda g, o, r: _part(o, "cost", "seconds")),
    "device": Field("string", "what it ran on", lambda g, o, r: _part(o, "cost", "device")),
    "commit": Field("string", "of the code that measured it", lambda g, o, r: _part(o, "provenance", "commit")),
    "digest": Field("string", "SHA-256 over the cell's artefacts", lambda g, o, r: o.manifest.get("digest")),
    "manifest": Field("string", "file that vouches for the number", lambda g, o, r: str(o.node.manifest)),
}  # fmt: skip
REQUIRED = ("study", "stage", "run", "method", "seed", "metric", "headline", "higher_is_better", "manifest")


def results_csv(grid: Grid) -> str:
    """CSV of all records of cells that are done, in the study's order; what is absent is empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(FIELDS)
    for outcome in grid.select(status="done"):
        for record in outcome.manifest["records"]:
            writer.writerow([_plain(field.read(grid, outcome, record)) for field in FIELDS.values()])
    return stream.getvalue()


def results_schema() -> str:
    """The Table Schema of `results.csv`; study, stage, run, seed and metric name a row."""
    fields = [
        {"name": name, "type": field.type, "description": field.description}
        | ({"constraints": {"required": True}} if name in REQUIRED else {})
        for name, field in FIELDS.items()
    ]
    key = ["study", "stage", "run", "seed", "metric"]
    whole = {"fields": fields, "missingValues": [""], "primaryKey": key}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    return ("true" if value else "false") if isinstance(value, bool) else value
