"""What papers report: rows of `config/papers/<method>.yaml`, quoted with their sources.

A quoted number never enters a measured table; it stands in a table of its own, grouped as its source prints
it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from pipeline.config import ConfigError
from pipeline.report.table import Column, Entry, Table, slug, word

PAPERS = Path("config/papers")
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's, ten times as fast, where PyYAML has it
KINDS = {
    "paper": "printed in the method’s paper",
    "authors": "published by its authors elsewhere",
    "third_party": "measured by others or in a later work",
    "second_hand": "quoted from a source that was not read",
}

# What a number carries with it wherever it is shown, if it is not its authors' word.
MARKS = {"third_party": "third party", "second_hand": "second hand"}


@dataclass(frozen=True, kw_only=True)
class Quote:
    """One reported number as its source prints it; `pretrain_epochs` is None where it is not stated."""

    method: str
    model: str
    pretrain_data: str | None
    pretrain_epochs: int | float | None
    task: str
    dataset: str
    metric: str
    value: float
    higher_is_better: bool
    source: str
    kind: str

    @property
    def place(self) -> str:
        """The source without its remark: `MAE paper Table 7`."""
        return re.sub(r"\s*\(.*\)$", "", self.source)

    @property
    def pretraining(self) -> str:
        """`IN1K, 1600 epochs`, as far as the source states it."""
        if self.pretrain_data == "none":
            return "none"
        length = "length not stated" if self.pretrain_epochs is None else f"{self.pretrain_epochs:g} epochs"
        return f"{self.pretrain_data or 'data not stated'}, {length}"


def load_quotes(path: str | Path) -> list[Quote]:
    """Read one method's reported numbers.

    Raises:
        ConfigError: naming the first row that lacks or adds a key, or whose value or kind cannot be.
    """
    path = Path(path)
    try:
        rows = yaml.load(path.read_text(), Loader=LOADER)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(rows, list):
        raise ConfigError(f"{path} holds a {type(rows).__name__}; expected a list of reported numbers")
    return [_quote(row, f"{path}, row {i}") for i, row in enumerate(rows, start=1)]


def find_quotes(methods: Iterable[str]) -> dict[str, list[Quote]]:
    """The reported numbers of the methods that have any, relative to the project's root."""
    paths = {method: PAPERS / f"{method}.yaml" for method in methods}
    return {method: load_quotes(path) for method, path in paths.items() if path.is_file()}


def quote_tables(method: str, quotes: Iterable[Quote]) -> list[Table]:
    """One table per place in the literature, in the order of the file; what is not the authors' word comes last."""
    groups: dict[tuple[str, str], list[Quote]] = {}
    for quote in sorted(quotes, key=lambda quote: quote.kind in MARKS):
        groups.setdefault((quote.place, quote.kind), []).append(quote)
    return [_table(method, place, kind, group) for (place, kind), group in groups.items()]


def all_quotes(method: str, quotes: Iterable[Quote]) -> Table:
    """Every reported number of one method as one table, for export."""
    rows = tuple(tuple(_entry(quote, field.name) for field in fields(Quote)) for quote in quotes)
    return Table(
        name=f"quoted-{method}",
        title=f"Numbers reported for {method}",
        caption="Quoted from the sources named in each row; nothing here was measured by this study.",
        columns=tuple(
            Column(key=f.name, title=f.name.replace("_", " "), numeric=f.name == "value") for f in fields(Quote)
        ),
        rows=rows,
    )


def _table(method: str, place: str, kind: str, quotes: list[Quote]) -> Table:
    columns = (
        ("method", "Method"),
        ("model", "Model"),
        ("pretraining", "Pretraining"),
        ("task", "Task"),
        ("dataset", "Data set"),
        ("metric", "Metric"),
        ("value", "Quoted value"),
        ("source", "Source"),
    )
    return Table(
        name=f"quoted-{method}-{kind}-{slug(place)}",
        title=place,
        caption=f"Quoted{', ' + MARKS[kind] if kind in MARKS else ''}: {KINDS[kind]}.",
        columns=tuple(Column(key=k, title=title, numeric=k == "value") for k, title in columns),
        rows=tuple(tuple(_entry(quote, key) for key, _ in columns) for quote in quotes),
    )


def _entry(quote: Quote, key: str) -> Entry:
    value = getattr(quote, key)
    if key == "value":
        text = f"{value:g}" + ("" if quote.higher_is_better else " ↓")
        return Entry(text=text, value=value, note=MARKS.get(quote.kind, ""), tone="quoted")
    if key == "pretrain_epochs" and value is not None:
        return Entry(text=f"{value:g}", value=value)
    return word(value)


def _quote(row: Any, where: str) -> Quote:
    expected = [field.name for field in fields(Quote)]
    if not isinstance(row, Mapping) or set(row) != set(expected):
        found = sorted(row) if isinstance(row, Mapping) else row
        raise ConfigError(f"{where} has {found}; expected exactly the keys {expected}")
    if row["kind"] not in KINDS:
        raise ConfigError(f"{where}: kind is {row['kind']!r}; expected one of {list(KINDS)}")
    if not isinstance(row["value"], (int, float)) or isinstance(row["value"], bool):
        raise ConfigError(f"{where}: value is {row['value']!r}; expected a number as the source prints it")
    if not isinstance(row["higher_is_better"], bool):
        raise ConfigError(f"{where}: higher_is_better is {row['higher_is_better']!r}; expected true or false")
    return Quote(**row)
