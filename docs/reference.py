"""The reference, made from the code: each page is read from the parser, the types or the files it describes.

What only words can say of a key stands in docs/words.py; a key without words, or words without a key, ends the build.
"""

import ast
import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any
from unittest import mock

from keys import checked_keys, literal_keys, record_keys  # beside this file, as `markup` and `words` are
from markup import as_yaml, escape, table
from pydantic import BaseModel, Field
from words import DATA_SET, MANIFEST, PROVENANCE, RECORD, RUN, STUDY, TASK

from pipeline.config import Request, available_methods, available_tasks, family, flatten, sources
from pipeline.config.augment import KINDS, Size
from pipeline.config.files import read
from pipeline.config.heads import PROTOCOL_HEAD, PROTOCOLS, RECIPE_HEAD, RECIPES, ProtocolHead, RecipeHead
from pipeline.config.models import MODELS, Family
from pipeline.config.options import _declared
from pipeline.config.parse import words
from pipeline.config.training import Train
from pipeline.config.types import VOCABULARY, setting


def commands() -> str:
    """The verbs of the Makefile, and what each stage says of itself."""
    verbs = re.findall(r"^([a-z]+):.*## (.*)$", Path("Makefile").read_text(), re.MULTILINE)
    told = [
        "# Commands",
        table(("verb", "what it does"), [(f"`make {verb}`", text) for verb, text in verbs]),
        "`CORES=4` changes how many cores a verb uses, `STUDY=mine` the study it is about, `ARGS=...` what `make test` "
        "and `make lock` pass on.",
    ]
    for path in sorted(Path("stages").glob("[a-z]*.py")):
        told += [f"## python -m stages.{path.stem}", f"```text\n{_help(path.stem)}\n```"]
    return "\n\n".join(told)


def studies() -> str:
    """What a study may say."""
    path = "pipeline/config/study.py"
    request = {name: f"{_words(field)}; {_default(field)}" for name, field in Request.model_fields.items()}
    return "\n\n".join(
        [
            "# Studies",
            "A study is `config/<name>.yaml`. What it says is held against recipes, protocols and types by "
            "`snakemake -n`, before anything is computed.",
            _keys("The file", checked_keys(path, "load_study"), STUDY),
            _keys("A data set", checked_keys("pipeline/config/sets.py", "parse_set"), DATA_SET),
            "Beside these stand the options of its source: see [Sources of data](sources.md).",
            _keys("A run", checked_keys(path, "_run"), RUN),
            _keys("A task", checked_keys(path, "_task"), TASK),
            "## What a stage asks of a cluster",
            " ".join((Request.__doc__ or "").split()),
            table(("key", "value"), [(f"`{name}`", text) for name, text in request.items()]),
        ]
    )


def recipes() -> str:
    """Every recipe with its head and its numbers."""
    head = ["# Recipes", _head(RecipeHead), "`train` and `augment` are [the same for all](training.md)."]
    return "\n\n".join([*head, *(_sections(name, RECIPES, RECIPE_HEAD) for name in available_methods())])


def protocols() -> str:
    """Every protocol with its head and its numbers."""
    head = ["# Protocols", _head(ProtocolHead), "`train` and `augment` are [the same for all](training.md)."]
    return "\n\n".join([*head, *(_sections(name, PROTOCOLS, PROTOCOL_HEAD) for name in available_tasks())])


def training() -> str:
    """The two sections that are typed already."""
    told = ["# Training and augmentation", "## `train`", _doc(Train), _fields(Train), "## `augment`", _doc(Size)]
    told.append(_fields(Size))
    for kind, model in KINDS.items():
        told += [f"### `kind: {kind}`", _doc(model), _fields(model)]
    return "\n\n".join(told)


def models() -> str:
    """Every named encoder."""
    told = ["# Encoders", "A run names its encoder by the setting `model`.", _doc(Family)]
    for path in sorted(MODELS.glob("*.yaml")):
        found = family(path.stem)
        more = f"; if a task names the run: {', '.join(found.takes_if_named)}" if found.takes_if_named else ""
        told += [
            f"## {path.stem}",
            f"`pipeline/nn/families/{path.stem}.py` takes {', '.join(found.takes)}{more}; "
            f"gives {', '.join(found.gives)}.",
            table(
                ("model", "sizes"),
                [(f"`{name}`", as_yaml(size)[1:-1]) for name, size in found.models.items()],
            ),
        ]
    return "\n\n".join(told)


def data_sources() -> str:
    """Every source with its options."""
    told = [
        "# Sources of data",
        "A data set of a study names its `source`; these are the options that stand beside it.",
    ]
    for name, kind in sorted(sources().items(), key=lambda item: item[::-1]):
        path = Path(f"pipeline/data/sources/{kind}/{name}.py")
        doc = ast.get_docstring(ast.parse(path.read_text())) or ""
        options = _declared(f"data.sources.{kind}.{name}", path.stat().st_mtime_ns)
        rows = [
            (f"`{key}`", _plain(words(one.kind)), "may be left out" if free else "")
            for key, (one, free) in options.items()
        ]
        told += [
            f"## {name} ({kind})",
            escape(" ".join(doc.split("\n\n")[0].split())),
            table(("option", "value", ""), rows),
        ]
    return "\n\n".join(told)


def types() -> str:
    """What the head of a recipe or protocol may say under `types`."""
    doc = import_module("pipeline.config.types").__doc__ or ""
    rows = [(f"`{name}`", words(kind)) for name, kind in VOCABULARY.items()]
    return "\n\n".join(["# Types of settings", doc.strip(), "## Vocabulary", table(("type", "a value is"), rows)])


def manifests() -> str:
    """What evidence consists of."""
    published = literal_keys("pipeline/cell.py", "publish") + literal_keys("pipeline/manifest.py", "publish")
    published += ["seal", "data"]  # set by itself, and by stages/prepare.py
    records = [key for path in sorted(Path("pipeline/tasks").rglob("*.py")) for key in record_keys(path)]
    names = [key for key in dict.fromkeys(published) if key not in ("sha256", "bytes", "peak_memory_gib")]
    return "\n\n".join(
        [
            "# Manifests and records",
            "`manifest.json` beside the `files/` it describes; the reasons stand in "
            "[Why manifests are edges](../explanation/manifests.md).",
            _keys("A manifest", dict.fromkeys(names, ""), MANIFEST),
            _keys("Its records", dict.fromkeys(records, ""), RECORD),
            _keys("Its provenance", dict.fromkeys(literal_keys("pipeline/manifest.py", "provenance"), ""), PROVENANCE),
        ]
    )


PAGES: dict[str, Callable[[], str]] = {
    "commands": commands,
    "studies": studies,
    "recipes": recipes,
    "protocols": protocols,
    "training": training,
    "models": models,
    "sources": data_sources,
    "types": types,
    "manifests": manifests,
}


def _help(stage: str) -> str:
    """What `python -m stages.<stage> --help` prints."""
    said = io.StringIO()
    environment = mock.patch.dict(os.environ, {"COLUMNS": "110"})
    arguments = mock.patch.object(sys, "argv", [stage, "--help"])
    with environment, arguments, contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        import_module(f"stages.{stage}").main()
    return said.getvalue().strip()


def _sections(name: str, folder: Path, head: tuple[str, ...]) -> str:
    """One recipe or protocol: what its head says, and each setting with its type and its value at each scale."""
    raw = read(folder / f"{name}.yaml", "recipe")
    types = flatten(raw.get("types", {}))
    scales = {key: flatten(value) for key, value in raw.items() if key not in head}
    told = [
        f"`{key}: {as_yaml(value)}`"
        for key, value in raw.items()
        if key in head and key not in ("types", "names", "title")
    ]
    keys = list(dict.fromkeys(key for section in scales.values() for key in section))
    rows = [
        (
            f"`{key}`",
            as_yaml(types[key], code=True) if key in types else "",
            *(as_yaml(section.get(key, "–"), code=key in section) for section in scales.values()),
        )
        for key in sorted(keys, key=lambda key: (key not in types, keys.index(key)))
    ]
    for key, spec in types.items():
        setting(spec, f"{name}: {key}")  # it is one
    title = f"## {name}\n\n**{raw['title']}**, `{folder / name}.yaml`: {', '.join(told)}"
    return f"{title}\n\n{table(('setting', 'type', *scales), rows)}"


def _head(model: type[BaseModel]) -> str:
    points = [_doc(each).partition("\n\n")[2] for each in (model.__mro__[1], model)]
    return "\n\n".join(["## The head", "\n".join(points), _fields(model)])


def _fields(model: type[BaseModel]) -> str:
    rows = [(f"`{name}`", _words(field), _default(field)) for name, field in model.model_fields.items()]
    return table(("key", "value", ""), rows)


def _words(field: Any) -> str:
    told = words(Annotated[field.annotation, Field(title=field.title)] if field.title else field.annotation)
    return _plain(told)


def _plain(told: str) -> str:
    """What the parser's own words leave to Python's."""
    told = re.sub(r"typing\.Literal\[(.*?)\]", lambda found: f"one of {found[1]}", told)
    return escape(re.sub(r"dict\[str, .*?\]", "a mapping", told))


def _default(field: Any) -> str:
    return "required" if field.is_required() else f"default `{as_yaml(field.get_default())}`"


def _doc(model: type) -> str:
    """A docstring, its lines of `name: meaning` as a list."""
    first, *rest = re.split(r"\n\n", ast.get_docstring(ast.parse(f'class _:\n    """{model.__doc__}"""').body[0]) or "")
    points = [re.sub(r"\s*\n(?!\s*[\w, ]+: )\s*", " ", part) for part in rest]
    return "\n\n".join(
        [" ".join(first.split()), *("\n".join(f"- {line}" for line in part.split("\n")) for part in points)]
    )


def _keys(title: str, found: Mapping[str, str], told: Mapping[str, str]) -> str:
    """Keys that the code knows, each with its words.

    Raises:
        KeyError: one has none, or there are words for what is no key.
    """
    if odd := set(found) ^ set(told):
        raise KeyError(f"{title}: {sorted(odd)} stand in the code or in docs/words.py alone")
    rows = [(f"`{key}`", told[key], *((note,) if note else ())) for key, note in found.items()]
    return f"## {title}\n\n{table(('key', 'meaning', '')[: len(rows[0])], rows)}"
