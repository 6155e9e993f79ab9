"""Measured beside reported: a difference and a verdict against a tolerance declared before anything was run.

`config/comparisons/<method>.yaml` says which runs stand beside which reported number, which settings make the
two comparable, and how far apart they may lie. A verdict exists only at the papers' own scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from pipeline.config import ConfigError, flatten
from pipeline.report.grid import Grid
from pipeline.report.papers import LOADER, MARKS, Quote
from pipeline.report.results import INTERVALS, measured
from pipeline.report.table import Column, Entry, Table, number, slug, word

COMPARISONS = Path("config/comparisons")
SCALE = "paper"
VERDICTS = ("within", "outside", "protocol differs", "not run", "failed", "damaged")
_TONES = {"protocol differs": "differs", "not run": "missing", "damaged": "failed"}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One declared comparison.

    `run` selects the pretraining runs by their traits (settings, `teacher` and `stages`: see `Grid.traits`);
    `quote` selects one reported number by its fields; `protocol` lists, by stage, the settings without which the
    two are not comparable; `tolerance` is in the metric's unit and `because` says where it comes from.
    """

    run: Mapping[str, Any]
    task: str
    metric: str
    quote: Quote
    protocol: Mapping[str, Mapping[str, Any]]
    tolerance: float
    because: str


def verdict(status: str, mean: float | None, reported: float, tolerance: float, differences: list[str]) -> str:
    """One of `VERDICTS`.

    Args:
        status: `done`, `failed`, `damaged` or `not run`, over all seeds of the cell.
        mean: what was measured, None unless `status` is `done`.
        reported: what the paper says, in the same unit.
        tolerance: the largest absolute difference that counts as agreement.
        differences: settings that make the two incomparable.
    """
    if status != "done" or mean is None:
        return status if status in ("failed", "damaged") else "not run"
    if differences:
        return "protocol differs"
    # Values are printed to one decimal: 83.3 against 83.6 ± 0.3 agrees, whatever binary fractions say.
    return "within" if abs(mean - reported) <= tolerance + 1e-9 else "outside"


def load_comparisons(method: str, quotes: list[Quote]) -> list[Comparison]:
    """The comparisons declared for a method, none where it has no file.

    Raises:
        ConfigError: for an entry that is not understood or does not name exactly one reported number.
    """
    path = COMPARISONS / f"{method}.yaml"
    if not path.is_file():
        return []
    raw = yaml.load(path.read_text(), Loader=LOADER)
    entries = raw.get("comparisons") if isinstance(raw, Mapping) else None
    if not isinstance(entries, list):
        raise ConfigError(f"{path} has no list 'comparisons'; see another file of {COMPARISONS}/ for its form")
    return [_comparison(entry, f"{path}, entry {i}", quotes) for i, entry in enumerate(entries, start=1)]


def differences(grid: Grid, run: str, comparison: Comparison) -> list[str]:
    """The protocol's settings in which a run is not what the paper did, each in words."""
    found = []
    for stage, expected in comparison.protocol.items():
        settings = grid.settings(stage, run)
        flat = flatten(settings)
        if settings.get("data") in grid.study.data:
            data = grid.study.data[settings["data"]]
            flat["data"] = data.source
            if bound := data.options.get("short_side"):
                found.append(f"{stage} data: short sides of {bound} pixels at most here, whole images there")
        for key, value in expected.items():
            if flat.get(key) != value:
                found.append(f"{stage} {key}: {_say(flat.get(key))} here, {_say(value)} there")
    return found


def comparison_tables(grid: Grid, method: str, quotes: list[Quote]) -> list[Table]:
    """One table per table of the paper; empty below the papers' scale, where nothing is comparable."""
    if grid.study.scale != SCALE:
        return []
    groups: dict[str, list[tuple[Entry, ...]]] = {}
    reasons: dict[str, dict[str, None]] = {}
    for comparison in load_comparisons(method, quotes):
        for run in _runs(grid, method, comparison):
            groups.setdefault(comparison.quote.place, []).append(_row(grid, run, comparison))
            reason = f"Tolerance of {comparison.tolerance:g} for {_label(grid, comparison)}: {comparison.because}."
            reasons.setdefault(comparison.quote.place, {})[reason] = None
    return [
        Table(
            name=f"compared-{slug(place)}",
            title=f"Against {place}",
            caption=f"Tolerances were declared in {COMPARISONS}/{method}.yaml before the runs. {INTERVALS}",
            columns=(
                Column(key="run", title="Run"),
                Column(key="metric", title="Metric"),
                Column(key="measured", title="Measured", numeric=True),
                Column(key="reported", title="Reported (quoted)", numeric=True),
                Column(key="source", title="Source"),
                Column(key="difference", title="Difference", numeric=True),
                Column(key="tolerance", title="Tolerance", numeric=True),
                Column(key="verdict", title="Verdict"),
                Column(key="differences", title="What differs"),
            ),
            rows=tuple(rows),
            notes=tuple(reasons[place]),
        )
        for place, rows in groups.items()
    ]


def _row(grid: Grid, run: str, comparison: Comparison) -> tuple[Entry, ...]:
    task, quote = comparison.task, comparison.quote
    entry = measured(grid, task, run, comparison.metric, fine=True)
    estimate = grid.estimate(task, run, comparison.metric) if grid.select(task, run) else None
    status = "done" if estimate else entry.text if entry.text in VERDICTS else "not run"
    contrast = differences(grid, run, comparison) if estimate else []
    said = verdict(status, estimate.mean if estimate else None, quote.value, comparison.tolerance, contrast)
    difference = None if estimate is None else estimate.mean - quote.value
    comparable = said in ("within", "outside")
    return (
        word(run),
        word(_label(grid, comparison)),
        entry,
        Entry(text=f"{quote.value:g}", value=quote.value, note=MARKS.get(quote.kind, ""), tone="quoted"),
        word(quote.source, tone="quoted"),
        Entry(text=f"{difference:+.2f}".replace("-", "−"), value=difference) if comparable else word(None),
        number(comparison.tolerance, "{:g}"),
        Entry(text=said, value=said, tone=_TONES.get(said, said)),
        word("; ".join(contrast)),
    )


def _say(value: Any) -> str:
    return "none" if value is None else str(value)


def _label(grid: Grid, comparison: Comparison) -> str:
    return f"{grid.study.short(comparison.task)} {grid.study.metric(comparison.task, comparison.metric)}"


def _runs(grid: Grid, method: str, comparison: Comparison) -> list[str]:
    """The runs of a method whose settings are those that the comparison is about."""
    found = []
    for name, run in grid.study.runs.items():
        flat = grid.traits[name] if run.method == method else {}
        applies = comparison.task in grid.study.tasks and name in grid.study.tasks[comparison.task].runs
        if flat and applies and all(flat.get(key) == value for key, value in comparison.run.items()):
            found.append(name)
    return found


def _comparison(entry: Any, where: str, quotes: list[Quote]) -> Comparison:
    expected = [field.name for field in fields(Comparison)]
    if not isinstance(entry, Mapping) or set(entry) != set(expected):
        raise ConfigError(f"{where} has {sorted(entry) if isinstance(entry, Mapping) else entry}; expected {expected}")
    wanted = entry["quote"]
    known = [field.name for field in fields(Quote)]
    if not isinstance(wanted, Mapping) or not set(wanted) <= set(known):
        raise ConfigError(f"{where}: quote is {wanted!r}; expected a mapping with some of the keys {known}")
    matching = [quote for quote in quotes if all(getattr(quote, key) == value for key, value in wanted.items())]
    if len(matching) != 1:
        raise ConfigError(f"{where}: quote {dict(wanted)} fits {len(matching)} reported numbers; expected exactly one")
    if (
        isinstance(entry["tolerance"], bool)
        or not isinstance(entry["tolerance"], (int, float))
        or entry["tolerance"] < 0
    ):
        raise ConfigError(f"{where}: tolerance is {entry['tolerance']!r}; expected a number of at least 0, such as 0.3")
    return Comparison(**{**entry, "quote": matching[0]})
