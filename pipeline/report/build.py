"""The report of a study: one page that opens from disk, and its tables and figures as files beside it.

Everything is read from manifests, so a report can be rebuilt anywhere from records alone; nothing in it
depends on when or where that happens.
"""

from __future__ import annotations

import json
import shutil
import textwrap
from dataclasses import replace
from pathlib import Path

from pipeline import manifest as manifests
from pipeline.config import Study
from pipeline.graph import command
from pipeline.report import words
from pipeline.report.ablations import ablation_table, find_ablations
from pipeline.report.cards import trained, write_cards
from pipeline.report.comparison import COMPARISONS, SCALE, comparison_tables
from pipeline.report.costs import cost_table
from pipeline.report.curves import loss_panels
from pipeline.report.effort import efforts
from pipeline.report.export import results_csv, results_schema
from pipeline.report.fewshot import shot_figures
from pipeline.report.figures import ablation_figures, effort_figure, loss_figure
from pipeline.report.grid import Grid, read_data, read_grid, unique
from pipeline.report.page import render
from pipeline.report.pairs import PAIRED, pairs
from pipeline.report.papers import PAPERS, all_quotes, find_quotes, quote_tables
from pipeline.report.pictures import BUDGET, choose_pictures, find_pictures, group_pictures, write_pictures
from pipeline.report.provenance import evidence, facts, problems, protocol
from pipeline.report.rank_figures import rank_figures
from pipeline.report.references import REFERENCES, bibliography, load_references
from pipeline.report.results import INAPPLICABLE, cells_table, counts, leaderboards, task_table
from pipeline.report.studies import list_studies
from pipeline.report.table import ABSENT, FORMATS, Column, Entry, Table, to_document, to_text
from pipeline.report.tuning import tuning_grid, tuning_table
from pipeline.report.verdict import verdict

LIMIT = 5_000_000  # bytes of the page; pictures give way when it is in danger
MARKUP = 100_000  # bytes around the pictures: captions and links
GALLERY = "<!-- pictures -->\n"  # where they go in the page
CELLS = 500  # whose evidence a page can hold; that of more is a page beside it


def build(study: Study) -> Path:
    """Write `reports/<study>/` from the records of a study and return its `index.html`.

    Beside the page: `compare.html` with `pictures/`, `tables/*.{csv,md,tex,json}`, all records as
    `tables/results.csv`, `figures/*.{svg,pdf}`, `models/<run>-<seed>/`, `summary.txt` and a `manifest.json` that names
    what the report was made from. Paths are relative to the project's root.
    """
    folder = Path("reports") / study.name
    grid, tuned, runs = read_grid(study), tuning_grid(study), list(study.runs)
    methods = unique(run.method for run in study.runs.values())
    quotes = find_quotes(methods)
    panels = loss_panels(grid)
    losses = [loss_figure(panel, runs) for panel in panels]
    effort = [effort_figure(panel, runs) for panel in efforts(grid)]
    ranks = [one for track in study.tracks.values() for one in rank_figures(grid, track)]
    shots = shot_figures(grid)
    ablations = [(ablation_table(grid, each), ablation_figures(grid, each)) for each in find_ablations(grid)]
    tables = {
        "leaderboards": leaderboards(grid),
        "tasks": [task_table(grid, task) for task in study.tasks],
        "ablations": [table for table, _ in ablations],
        "comparisons": [table for method in quotes for table in comparison_tables(grid, method, quotes[method])],
        "tuning": [tuning_table(grid, tuned)] if tuned else [],
        "costs": [cost_table(grid)],
        "cells": [cells_table(grid)],
    }
    content = {
        "study": study,
        "grid": grid,
        "is_paper_scale": study.scale == SCALE,
        "data": read_data(study),
        "counts": counts(grid.outcomes),
        "verdict": verdict(grid),
        "problems": problems(grid),
        "facts": facts(grid),
        "tables": tables,
        "protocols": {task: protocol(grid, task) for task in study.tasks},
        "ablations": ablations,
        "losses": losses,
        "efforts": effort,
        "ranks": ranks,
        "shots": shots,
        "quotes": {method: quote_tables(method, rows) for method, rows in quotes.items()},
        "cards": list(trained(grid)),
        "has_pictures": bool(choose_pictures(grid)),
        "evidence": [evidence(outcome) for outcome in grid.outcomes],
        "beside": "evidence.html" if len(grid.outcomes) > CELLS else "",
    }
    page = render("index.html.j2", **content)
    budget = min(BUDGET, LIMIT - len(page.encode()) - MARKUP)
    pictures = group_pictures(study, find_pictures(grid, budget))
    page = page.replace(GALLERY, render("pictures.html.j2", pictures=pictures, beside=content["beside"]))

    for part in ("tables", "figures", "pictures", "models"):  # nothing of an earlier report stays behind
        shutil.rmtree(folder / part, ignore_errors=True)
        (folder / part).mkdir(parents=True)
    exported = [table for group in tables.values() for table in group]
    exported += [all_quotes(method, rows) for method, rows in quotes.items()]
    for table in exported:
        for suffix, write in FORMATS.items():
            _write(folder / "tables" / f"{table.name}.{suffix}", write(table))
    _write(folder / "tables" / "all.tex", to_document(exported))
    for one in [*losses, *effort, *ranks, *shots, *(figure for _, figures in ablations for figure in figures)]:
        _write(folder / "figures" / f"{one.name}.svg", one.svg)
        (folder / "figures" / f"{one.name}.pdf").write_bytes(one.pdf)
    _write(folder / "tables" / "results.csv", results_csv(grid))
    _write(folder / "tables" / "results.schema.json", results_schema())
    _write(folder / "tables" / "references.bib", bibliography(methods, quotes, load_references()))
    write_cards(grid, folder / "models")
    _write(folder / "summary.txt", headline(grid) + "\n")
    _write(folder / "index.html", page)
    both = pairs(grid, panels, write_pictures(grid, folder / "pictures"))
    _write(folder / "compare.html", render("compare.html.j2", study=study, paired=PAIRED, pairs=both))
    (folder / "evidence.html").unlink(missing_ok=True)
    if content["beside"]:
        _write(folder / "evidence.html", render("evidence.html.j2", **content))
    _write(folder / "manifest.json", _manifest(grid, tuned, folder))
    list_studies()
    return folder / "index.html"


def headline(grid: Grid) -> str:
    """The leaderboard in plain text, as `make demo` prints it, with the count of cells above it."""
    study, total = grid.study, counts(grid.outcomes)
    told = ", ".join(f"{count} {status}" for status, count in total.items() if count or status == "done")
    lines = [f"Study {study.name} ({study.scale} scale): {told} of {len(grid.outcomes)} cells", ""]
    lines += [*(textwrap.fill(f"{words.sentence(title)}: {told}", 100) for title, told in verdict(grid)[:-1]), ""]
    boards = leaderboards(grid)
    for board in boards:
        lines += [board.title, ""] if len(boards) > 1 else []
        lines += [to_text(_narrow(study, board)), ""]
    lines += ["± and [low, high] are 95 % intervals, over seeds (pooled where they may be) and within one cell."]
    if study.scale != SCALE:
        lines += ["Measured on embedded data: not comparable with any paper's numbers."]
    return "\n".join(lines)


def _narrow(study: Study, table: Table) -> Table:
    """A leaderboard for a terminal: runs, metrics and ranks, no small print, short titles."""
    wide = ("method", "improvement", "pretrain_hours")
    keep = [i for i, column in enumerate(table.columns) if column.key not in wide]
    columns = tuple(replace(table.columns[i], title=_short(study, table.columns[i])) for i in keep)
    rows = tuple(tuple(_brief(row[i]) for i in keep) for row in table.rows)
    return replace(table, columns=columns, rows=rows)


def _short(study: Study, column: Column) -> str:
    """A task's short name, or the metric's where several stand for the task."""
    task, _, metric = column.key.partition(".")
    if not metric:
        return "Rank" if column.key == "mean_rank" else column.title
    return study.short(task) if len(study.tasks[task].head.headline) == 1 else study.metric(task, metric)


def _brief(entry: Entry) -> Entry:
    return replace(entry, note="", text=ABSENT if entry.text == INAPPLICABLE else entry.text)


def _manifest(grid: Grid, tuned: Grid | None, folder: Path) -> str:
    """What the report was made from and what it consists of, without time or place."""
    study = grid.study
    sources = [study.path, REFERENCES, *(outcome.node.manifest for outcome in grid.outcomes)]
    methods = unique(run.method for run in study.runs.values())
    sources += [place / f"{method}.yaml" for place in (PAPERS, COMPARISONS) for method in methods]
    sources += [spec.folder / "manifest.json" for spec in study.data.values()]
    sources += [tuned.study.path, *(outcome.node.manifest for outcome in tuned.outcomes)] if tuned else []
    inputs = {str(path): {"sha256": manifests.sha256(path)} for path in sources if path.is_file()}
    written = [
        *folder.glob("*.html"),
        folder / "summary.txt",
        *folder.glob("tables/*"),
        *folder.glob("figures/*"),
        *folder.glob("pictures/*"),
        *folder.glob("models/*/README.md"),
    ]
    artefacts = {
        str(file.relative_to(folder)): {"sha256": manifests.sha256(file), "bytes": file.stat().st_size}
        for file in sorted(written)
    }
    whole = {
        "format": manifests.FORMAT,
        "stage": "report",
        "study": study.name,
        "scale": study.scale,
        "command": command("report", study),
        "inputs": inputs,
        "cells": counts(grid.outcomes),
        "artefacts": artefacts,
        "digest": manifests.digest({name: artefact["sha256"] for name, artefact in artefacts.items()}),
    }
    return json.dumps(whole, indent=1) + "\n"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
