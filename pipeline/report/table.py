"""A table once, written four ways: CSV, Markdown, LaTeX and JSON (the page has its own template).

Readers see `text`; machines get `value`. An estimate spreads over several CSV columns, so that no program
ever has to parse "61.2 ± 3.4".
"""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from pipeline.statistics import Estimate

ABSENT = "–"
LONG = 40  # rows of a LaTeX table that a page holds
_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "−": r"$-$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "→": r"$\rightarrow$",
    "²": r"$^2$",
    "≥": r"$\geq$",
    "–": "--",
    "…": r"\ldots{}",
    "·": r"$\cdot$",
    "½": r"$\frac{1}{2}$",
    "μ": r"$\mu$",
    "λ": r"$\lambda$",  # Unicode spells its name otherwise
    "“": "``",
    "”": "''",
    "‘": "`",
    "’": "'",
    "\u00a0": "~",
    "\u2011": "-",
    "\n": " ",
    "\t": " ",
    "ο": "o",
}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry of a table.

    `text` is read, `value` is sorted by and exported (None sorts last), `note` is small print such as
    `n = 2`, `evidence` names the cells that prove it, `tone` is what the entry means for colour: `failed`,
    `missing`, `within`, `outside`, `differs` or `quoted`.
    """

    text: str
    value: Estimate | float | int | str | None = None
    note: str = ""
    evidence: tuple[str, ...] = ()
    tone: str = ""
    best: bool = False

    @property
    def sort(self) -> float | int | str | None:
        """What a reader who sorts this column sorts by."""
        return self.value.mean if isinstance(self.value, Estimate) else self.value


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column: its key for machines and its title for readers; numbers are aligned right."""

    key: str
    title: str
    numeric: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of entries under columns; the first entry of a row names it. `notes` stand below."""

    name: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Entry, ...], ...]
    notes: tuple[str, ...] = ()


def word(text: Any, **more: Any) -> Entry:
    """An entry that is a word; what is absent is a dash."""
    return Entry(
        text=ABSENT if text in (None, "") else str(text),
        value=None if text in (None, "") else str(text),
        **more,
    )


def number(value: float | None, form: str = "{:,.1f}", **more: Any) -> Entry:
    """An entry that is a plain number; what is absent is a dash."""
    return Entry(text=ABSENT if value is None else form.format(value), value=value, **more)


def to_csv(table: Table) -> str:
    """CSV with a header; an estimate fills `<key>`, `_low`, `_high`, `_interval` and `_num_seeds`.

    What is a dash to readers is empty here, except where its text says why (`failed`, `not run`).
    """
    spread = [any(isinstance(row[i].value, Estimate) for row in table.rows) for i in range(len(table.columns))]
    header: list[str] = []
    for column, wide in zip(table.columns, spread, strict=True):
        parts = ("", "_low", "_high", "_interval", "_num_seeds") if wide else ("",)
        header += [column.key + part for part in parts]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    for row in table.rows:
        fields: list[Any] = []
        for entry, wide in zip(row, spread, strict=True):
            value = entry.value
            if isinstance(value, Estimate):
                fields += [value.mean, value.low, value.high, value.basis, value.num_seeds]
            else:
                fields += [_plain(entry), *([None] * 4 if wide else [])]
        writer.writerow(fields)
    return stream.getvalue()


def to_json(table: Table) -> str:
    """One object per row, keyed by column; estimates are objects and absent values null."""
    rows = []
    for row in table.rows:
        fields: dict[str, Any] = {}
        for column, entry in zip(table.columns, row, strict=True):
            fields[column.key] = asdict(entry.value) if isinstance(entry.value, Estimate) else _plain(entry)
        fields["evidence"] = sorted({key for entry in row for key in entry.evidence})
        rows.append(fields)
    whole = {
        "name": table.name,
        "title": table.title,
        "caption": table.caption,
        "notes": table.notes,
        "rows": rows,
    }
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def to_markdown(table: Table) -> str:
    """A pipe table under its title, with caption and notes."""
    head = [_markdown(column.title) for column in table.columns]
    rule = ["---:" if column.numeric else ":---" for column in table.columns]
    body = []
    for row in table.rows:
        texts = [_markdown(_read(entry)) for entry in row]
        body.append([f"**{text}**" if entry.best else text for text, entry in zip(texts, row, strict=True)])
    lines = ["| " + " | ".join(fields) + " |" for fields in [head, rule, *body]]
    notes = [f"- {_markdown(note)}" for note in table.notes]
    blocks = [f"### {_markdown(table.title)}", _markdown(table.caption), "\n".join(lines), "\n".join(notes)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def to_latex(table: Table) -> str:
    """A booktabs table, across pages (`longtable`) where it is long; needs these two packages and UTF-8 input."""
    align = "".join("r" if column.numeric else "l" for column in table.columns)
    title = rf"\caption{{{latex(table.title)}. {latex(table.caption)}}}"
    label = rf"\label{{tab:{re.sub('[^a-zA-Z0-9-]', '-', table.name)}}}"
    head = [r"\toprule", " & ".join(latex(column.title) for column in table.columns) + r" \\", r"\midrule"]
    rows = []
    for row in table.rows:
        texts = [latex(_read(entry)) for entry in row]
        fields = [rf"\textbf{{{text}}}" if entry.best else text for text, entry in zip(texts, row, strict=True)]
        # A bracket right after \\ would be read as its optional length.
        rows.append(("{}" if fields[0].startswith("[") else "") + " & ".join(fields) + r" \\")
    notes = [rf"\par\footnotesize {latex(note)}" for note in table.notes]
    if len(table.rows) > LONG:
        lines = [rf"\begin{{longtable}}{{{align}}}", title + label + r" \\", *head, r"\endhead", *rows, r"\bottomrule"]
        return "\n".join([*lines, r"\end{longtable}", *notes]) + "\n"
    lines = [r"\begin{table}", r"\centering", title, label, rf"\begin{{tabular}}{{{align}}}", *head, *rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", *notes, r"\end{table}"]) + "\n"


def to_document(tables: Sequence[Table]) -> str:
    """A LaTeX document of tables that lie beside it as `<name>.tex`, to be compiled where it lies."""
    lines = [r"\documentclass[a3paper,landscape]{article}", r"\usepackage[margin=1cm]{geometry}"]
    lines += [r"\usepackage[T1]{fontenc}", r"\usepackage{booktabs,longtable}", r"\begin{document}", r"\tiny"]
    lines += [rf"\input{{{table.name}}}\clearpage" for table in tables]
    return "\n".join([*lines, r"\end{document}"]) + "\n"


def to_text(table: Table) -> str:
    """Aligned plain text for a terminal, the first column to the left and the rest to the right."""
    grid = [
        [column.title for column in table.columns],
        *([_read(entry) for entry in row] for row in table.rows),
    ]
    widths = [max(len(row[i]) for row in grid) for i in range(len(table.columns))]
    lines = []
    for row in grid:
        fields = [
            text.rjust(width) if column.numeric else text.ljust(width)
            for text, width, column in zip(row, widths, table.columns, strict=True)
        ]
        lines.append("  ".join(fields).rstrip())
    return "\n".join([lines[0], "-" * (sum(widths) + 2 * len(widths) - 2), *lines[1:]])


FORMATS = {"csv": to_csv, "md": to_markdown, "tex": to_latex, "json": to_json}


def slug(text: str) -> str:
    """A text as part of a file's name and of an anchor: `liuxingbin/dbot README.md` as `liuxingbin-dbot-readme-md`."""
    return re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")


def latex(text: str) -> str:
    """Text with everything that LaTeX would read as a command made harmless."""
    return "".join(_LATEX.get(character) or _spelled(character) for character in text)


@cache
def _spelled(character: str) -> str:
    """A character as pdfLaTeX knows it: Latin as it is, Greek as mathematics, others by their number."""
    name = unicodedata.name(character, "")
    if name.startswith("GREEK SMALL LETTER ") and "WITH" not in name:
        return rf"$\{name.rpartition(' ')[2].lower()}$"
    known = 32 <= ord(character) < 0x180 and character not in "ĦħĸĿŀŉŦŧſ"
    return character if known else f"[U+{ord(character):04X}]"


def select_best(entries: Sequence[Entry], higher_is_better: bool) -> list[bool]:
    """Which entries of one column are the best; none when there is nothing to be better than."""
    values = [entry.sort for entry in entries]
    numbers = [value for value in values if isinstance(value, (int, float))]
    if len(numbers) < 2:
        return [False] * len(values)
    top = max(numbers) if higher_is_better else min(numbers)
    return [value == top for value in values]


def _plain(entry: Entry) -> Any:
    return entry.text if entry.value is None and entry.tone in ("failed", "missing") else entry.value


def _read(entry: Entry) -> str:
    return f"{entry.text} ({entry.note})" if entry.note else entry.text


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>|])", r"\\\1", text).replace("\n", " ")
