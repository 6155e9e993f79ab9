"""What a page of a system shows that files say: its recipe with its sources, its runs, and what papers report of it."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from markup import as_yaml, escape, table  # beside this file

from pipeline.config import flatten, load_study
from pipeline.config.files import read
from pipeline.config.heads import RECIPE_HEAD, RECIPES
from pipeline.config.study import Run, Study
from pipeline.report.comparison import COMPARISONS
from pipeline.report.papers import MARKS, PAPERS, load_quotes, quote_tables
from pipeline.report.table import Table

STUDIES = ("demo", "paper", "released")  # not smoke, which is for tests, nor quick, a part of the demo
FEW = 12  # reported numbers that are shown unfolded


def recipe(name: str) -> str:
    """Every number of a recipe at each scale, with what the file remarks on it."""
    path = RECIPES / f"{name}.yaml"
    raw, said = read(path, "recipe"), dict(_remarks(path))
    scales = {key: flatten(section) for key, section in raw.items() if key not in RECIPE_HEAD}
    keys = dict.fromkeys(key for section in scales.values() for key in section if not key.startswith("by_model."))
    rows = [
        (
            f"`{key}`",
            *(as_yaml(section[key], code=True) if key in section else "–" for section in scales.values()),
            _remark("; ".join(f"{scale}: {said[f'{scale}.{key}']}" for scale in scales if f"{scale}.{key}" in said)),
        )
        for key in keys
    ]
    told = [
        f"`{path}`, whose types stand in [Recipes](../reference/recipes.md#{name}):",
        f"> {said['version']}",
        table(("setting", *scales, "remarks"), rows),
    ]
    sizes: dict[tuple[str, str], str] = {}
    for scale in scales:  # one that builds on another has what that one has, which is told once
        for model, changes in raw[scale].get("by_model", {}).items():
            for key, found in flatten(changes).items():
                remark = _remark(said.get(f"{scale}.by_model.{model}.{key}", ""))
                sizes.setdefault((f"`{model}`", f"`{key}: {as_yaml(found)}`"), remark)
    if sizes:
        rows = [(*changed, remark) for changed, remark in sizes.items()]
        told += ["What other encoders change:", table(("model", "setting", "remarks"), rows)]
    return "\n\n".join(told)


def runs(method: str) -> str:
    """Runs of a method in the project's studies, and what measures them."""
    told = []
    for name, study in ((name, _study(name)) for name in STUDIES):
        own = [run for run in study.runs.values() if (run.head.method or run.method) == method]
        rows = table(("run", "what it changes", "learns from", "measured by"), [_run(run, study) for run in own])
        title = f"{_count(len(own), 'run')} of `config/{name}.yaml`"
        told += [_folded(title, rows, shown=name == "demo")] if own else []
    return "\n\n".join(told)


def reported(method: str) -> str:
    """What papers report of a method, a table for each place in the literature."""
    path = PAPERS / f"{method}.yaml"
    quotes = load_quotes(path)
    head = " ".join(line[1:].strip() for line in path.read_text().split("\n- ")[0].splitlines())
    marks = {word: mark for word, mark in MARKS.items() if any(quote.kind == word for quote in quotes)}
    words = " and ".join(f"“{mark}”" for mark in marks.values())
    return "\n\n".join(
        [
            f"Quoted, never measured here: {_count(len(quotes), 'number')} of `{path}`.",
            f"> {escape(head.partition(' `kind` says')[0])}",
            *([f"What is marked {words} is not the authors’ word."] if marks else []),
            f"Which of them measured ones are held against, and how far apart the two may lie, says `{held}`."
            if (held := COMPARISONS / f"{method}.yaml").is_file()
            else "None of them is held against a measured one.",
            *(
                _folded(_titled(found, marks), _quoted(found), shown=place == 0 or len(quotes) <= FEW)
                for place, found in enumerate(quote_tables(method, quotes))
            ),
        ]
    )


def _remarks(path: Path) -> Iterator[tuple[str, str]]:
    """Dotted names of a YAML file's values, each with the comments on it; one on a section is its first value's."""
    lines = path.read_text().splitlines()

    def walk(node: Any, place: tuple[str, ...], before: list[str]) -> Iterator[tuple[str, str]]:
        for key, found in node.value:
            if key.value == "<<":  # what is merged is remarked on where it stands
                continue
            line, column = key.start_mark.line, key.start_mark.column
            if not lines[line][:column].strip():  # others are told of by the first one of their line
                above = [text.strip()[1:] for text in lines[:line]]
                while above and lines[len(above) - 1].lstrip().startswith("#"):
                    above.pop()
                before = before + [text.strip()[1:].strip() for text in lines[len(above) : line]]
                before = [" ".join(before)] if before else []
                if remark := re.search(r"\s#\s(.*)$", lines[line]):
                    before.append(remark[1].strip())
            inside = (*place, key.value)
            if isinstance(found, yaml.MappingNode) and found.value:
                yield from walk(found, inside, [_of_all(key.value, remark) for remark in before])
            elif before:
                yield ".".join(inside), escape("; ".join(before))
            before = []

    yield from walk(yaml.compose(path.read_text()), (), [])


def _of_all(section: str, remark: str) -> str:
    return remark if remark.startswith("of all ") else f"of all `{section}`, {remark}"


def _remark(said: str) -> str:
    """Not squeezed by the columns before it."""
    return said and f'<span class="remark">{said}</span>'


@cache
def _study(name: str) -> Study:
    return load_study(f"config/{name}.yaml")


def _run(run: Run, study: Study) -> tuple[str, ...]:
    tasks = [study.tasks[name].short for name in study.tasks if run.name in study.tasks[name].runs]
    changes = [f"recipe `{run.method}`"] if run.head.method else []
    read = {"weights": run.weights} if run.weights else {}
    changes += [f"`{key}: {as_yaml(found)}`" for key, found in (read | dict(run.changes)).items()]
    return f"`{run.name}`", ", ".join(changes), f"`{run.teacher}`" if run.teacher else "", ", ".join(tasks)


def _titled(found: Table, marks: dict[str, str]) -> str:
    mark = next((mark for word, mark in marks.items() if f"-{word}-" in found.name), "")
    return f"{found.title}{' · ' + mark if mark else ''} ({len(found.rows)})"


def _quoted(found: Table) -> str:
    """What all rows share once, above the others."""
    texts = [{row[i].text for row in found.rows} for i in range(len(found.columns))]
    shared = [len(each) == 1 < len(found.rows) and not found.columns[i].numeric for i, each in enumerate(texts)]
    shared[-1] = shared[-1] or texts[-1] == {found.title}  # the source
    once = [
        f"{column.title}: {escape(found.rows[0][i].text)}"
        for i, column in enumerate(found.columns)
        if shared[i] and texts[i] != {found.title}
    ]
    head = tuple(column.title for i, column in enumerate(found.columns) if not shared[i])
    rows = [tuple(escape(entry.text) for i, entry in enumerate(row) if not shared[i]) for row in found.rows]
    return "\n\n".join([f"{found.caption} {'; '.join(once)}", table(head, rows)])


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _folded(title: str, text: str, *, shown: bool) -> str:
    inside = "\n".join(f"    {line}" if line else "" for line in text.splitlines())
    quotes = str.maketrans({'"': "”"})
    return f'???{"+" if shown else ""} quote "{title.translate(quotes)}"\n\n{inside}'
