"""BibTeX of what a study compares and quotes: `config/papers/references.bib`, and an entry for every other source."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import ConfigError
from pipeline.report.papers import MARKS, PAPERS, Quote
from pipeline.report.table import latex, slug

REFERENCES = PAPERS / "references.bib"
_REPOSITORY = re.compile(r"(?<![\w.-])(?:github\.com/)?([A-Za-z][\w.-]*/[A-Za-z][\w.-]*)(?=$|[\s,;)])")
_FIELD = re.compile(r"^\s*(ours|quoted) = \{(.*?)\},?$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """An entry as BibTeX reads it; `ours` are the recipes it is the paper of, `quoted` the beginnings of sources."""

    key: str
    text: str
    ours: tuple[str, ...] = ()
    quoted: tuple[str, ...] = ()


def load_references(path: Path = REFERENCES) -> list[Reference]:
    """The entries of a .bib file, none where there is no file.

    Raises:
        ConfigError: for an entry without a key, or a key that stands twice.
    """
    if not path.is_file():
        return []
    found = []
    for block in re.split(r"^(?=@)", path.read_text(), flags=re.MULTILINE)[1:]:
        head = re.match(r"@\w+\{([^,\s{}]+),", block)
        if head is None:
            raise ConfigError(f"{path}: {block.splitlines()[0]!r} has no key; expected such as @misc{{name2020word,")
        told = {name: tuple(re.split(r",\s*", value)) for name, value in _FIELD.findall(block)}
        found.append(Reference(key=head[1], text=_FIELD.sub("", block), **told))
    keys = [one.key for one in found]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise ConfigError(f"{path}: {', '.join(twice)} stands twice; expected each key once")
    return [Reference(key=one.key, text=_tidy(one.text), ours=one.ours, quoted=one.quoted) for one in found]


def cite(source: str, kind: str, references: Iterable[Reference]) -> Reference:
    """What a quoted number's source is cited as: its entry, a repository, or what is known of it in words."""
    for one in references:
        if any(source.startswith(beginning) for beginning in one.quoted):
            return one
    repository = _REPOSITORY.search(source)
    if repository is not None:
        name = repository[1]
        url = f"https://github.com/{name}"
        return _misc(slug(name), {"title": f"{{{latex(name)}}}", "howpublished": "GitHub", "url": url})
    words = re.sub(r"\s*\(.*\)$", "", source)
    note = MARKS.get(kind, "not identified further")
    return _misc(slug(words)[:60].strip("-"), {"title": f"{{{latex(words)}}}", "note": note})


def bibliography(methods: Sequence[str], quotes: Mapping[str, Sequence[Quote]], references: Sequence[Reference]) -> str:
    """A .bib file: the papers of the methods, then every source that a number is quoted from, each once."""
    chosen = {one.key: one for one in references if set(one.ours) & set(methods)}
    for rows in quotes.values():
        for quote in rows:
            one = cite(quote.place, quote.kind, references)
            chosen.setdefault(one.key, one)
    return "\n".join(one.text for one in chosen.values())


def _misc(key: str, fields: Mapping[str, str]) -> Reference:
    lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
    return Reference(key=key, text=f"@misc{{{key},\n{lines}\n}}\n")


def _tidy(text: str) -> str:
    """An entry without the lines that only this project reads, and without a comma that they leave at its end."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    body = [line.rstrip(",") + "," for line in lines[1:-1]]
    return "\n".join([lines[0], *body[:-1], body[-1].rstrip(","), lines[-1]]) + "\n"
