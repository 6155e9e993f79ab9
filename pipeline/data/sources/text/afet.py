"""Mentions with types in AFET's JSON: FIGER, OntoNotes and BBN as Ren et al. (EMNLP 2016) distribute them.

A line is a sentence, `{"tokens": [...], "mentions": [{"start": 0, "end": 2, "labels": ["/person", ...]}], ...}`, the
end excluded. Each mention is a text of its own. Known traps, each noted or rejected by name: mentions out of range (-1
in older copies of BBN), BBN's test that says FAC for FACILITY, types without their ancestors, sentences of no mention.
"""

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pipeline.config import ConfigError
from pipeline.config.types import BelowOne, Count, Fraction, Natural, Seed
from pipeline.data.inspection import Findings
from pipeline.data.official import check_counts, check_root
from pipeline.data.outside import open_file, read_text
from pipeline.data.texts import SPLITS, Text, decode, finish, pack

KEY = "root"
MOST_BYTES = 2**36  # of a file of sentences
WHERE = "Expected: train.json, test.json and, if there is one, dev.json, a sentence a line; {}"
EXPECTED = {
    "figer": WHERE.format("github.com/shanzhenren/AFET links to Wiki/FIGER"),
    "ontonotes": WHERE.format("github.com/shanzhenren/AFET links to OntoNotes, whose text the LDC licenses"),
    "bbn": WHERE.format("github.com/shanzhenren/AFET links to BBN, whose text the LDC licenses"),
}
RENAMED = {"bbn": {"FAC": "FACILITY"}}  # abhipec/fnet, issue 5: the test split's name for a type of the training split
TYPE = re.compile(r"(/[^/\s]+)+")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a study says about a set of typed mentions that the user keeps.

    root: its folder.
    layout: `figer`, `ontonotes` or `bbn`.
    train_file: `train.json`, or `train_new.json` as AFET's preprocessing writes it (of OntoNotes, the augmented one).
    types: file of all types, one a line; null: those of the mentions.
    val_from, val_share: the split of whose sentences a share is held out for validation where there is no dev.json.
    vocabulary_size: ids of words at most.
    expect: numbers of `train`, `val` and `test` mentions and of `types`; null: none.
    max_reject_share: largest share of the mentions that may be unusable.
    num_workers: threads that read; null: one for each CPU of the process.
    shard_mib: size of a pack's shards; 0 for one a text.
    seed: of what is held out.
    """

    root: str | None
    layout: Literal["figer", "ontonotes", "bbn"]
    train_file: str
    types: str | None
    val_from: Literal["train", "test"]
    val_share: BelowOne
    vocabulary_size: Count
    expect: Mapping[str, Natural] | None
    max_reject_share: Fraction
    num_workers: Count | None
    shard_mib: Natural
    seed: Seed


class Place(NamedTuple):
    """A mention: its file, the number of its line and the bytes of it, which mention of the sentence it is."""

    file: str
    number: int
    offset: int
    length: int
    mention: int

    @property
    def name(self) -> str:
        return f"{self.file}, line {self.number}, mention {self.mention + 1}"


def prepare(options: Options, work: Path, files: Path) -> dict[str, Any]:
    """Checks and packs the set.

    Raises:
        ConfigError: the root, its layout, its counts or too many mentions are not as they should be.
    """
    layout = EXPECTED[options.layout]
    root = check_root(options.root, KEY, layout, (options.train_file, "test.json"))
    types = None if options.types is None else read_types(Path(options.types).expanduser())
    splits, without = _find(root, options)
    findings = Findings()
    for split in SPLITS:
        look = partial(_look, root, types, RENAMED.get(options.layout, {}))
        pack(split, splits[split], lambda place: place.name, look, findings, options, work, files)
    depths = None if types is None else {name: name.count("/") for name in types}
    told = finish(files, options.vocabulary_size, depths)
    counts = {split: told["splits"][split]["count"] for split in SPLITS} | {"types": len(told["classes"])}
    check_counts(KEY, root, options.expect, counts)
    return {**told, "sentences_without_mentions": without, **findings.close(files, str(root), options.max_reject_share)}


def read_types(path: Path) -> frozenset[str]:
    """The types of a file, one a line.

    Raises:
        ConfigError: there is no such file, or a line is no type.
    """
    expected = "expected a type a line, such as /person/artist"
    if not path.is_file():
        raise ConfigError(
            f"types is {str(path)!r}, and there is no such file; {expected}, or null for the mentions' own"
        )
    lines = read_text(path.parent, path, f"types: {expected}").split("\n")
    for number, line in enumerate(lines, 1):
        if line.strip() and not TYPE.fullmatch(line.strip()):
            raise ConfigError(f"{path}, line {number}, is {line[:80]!r}; {expected}")
    return frozenset(line.strip() for line in lines if line.strip())


def read_mention(
    data: bytes, mention: int, types: frozenset[str] | None, renamed: Mapping[str, str]
) -> tuple[Text, list[str]]:
    """One mention of a sentence, and what is odd about it.

    Args:
        data: the line.
        mention: which of the sentence.
        types: that there are; None for any.
        renamed: parts of types that are other parts' old names.

    Raises:
        ValueError: the line is no sentence, the mention is out of range, or a type is none, is outside or is missing.
    """
    sentence = _parse(data)
    tokens, entry = sentence["tokens"], sentence["mentions"][mention]
    start, end, labels = (
        (entry.get(key) for key in ("start", "end", "labels")) if isinstance(entry, dict) else 3 * (None,)
    )
    if type(start) is not int or type(end) is not int or not isinstance(labels, list):
        raise ValueError("the mention has no start, end and labels")
    if not 0 <= start < end <= len(tokens):
        raise ValueError(f"the mention is tokens {start} to {end} of {len(tokens)}")
    notes = []
    for label in labels:
        if not isinstance(label, str) or not TYPE.fullmatch(label):
            raise ValueError(f"the type {str(label)[:80]!r} is no path such as /person/artist")
    named = ["/".join(renamed.get(part, part) for part in label.split("/")) for label in labels]
    if named != labels:
        notes.append("an old name of a type, replaced")
    named = sorted(set(named))
    for label in named:
        if types is not None and label not in types:
            raise ValueError(f"the type {label!r} is outside the hierarchy")
        if (parent := label.rpartition("/")[0]) and parent not in named and (types is None or parent in types):
            notes.append(f"a type without its parent {parent}")
    return Text(tokens, start, end, named).check(), notes


@lru_cache(maxsize=4)  # a sentence's mentions follow each other
def _parse(data: bytes) -> dict[str, Any]:
    try:
        sentence = json.loads(decode(data))
    except (json.JSONDecodeError, RecursionError):
        raise ValueError("no JSON") from None
    tokens, mentions = (sentence.get(key) if isinstance(sentence, dict) else None for key in ("tokens", "mentions"))
    if not isinstance(tokens, list) or not isinstance(mentions, list):
        raise ValueError("no object with lists of tokens and mentions")
    if not all(isinstance(token, str) and token for token in tokens):
        raise ValueError("a token is no text")
    return sentence


def _look(root: Path, types: frozenset[str] | None, renamed: Mapping[str, str], place: Place) -> tuple[Text, list[str]]:
    with open_file(root, root / place.file, MOST_BYTES) as file:
        file.seek(place.offset)
        return read_mention(file.read(place.length), place.mention, types, renamed)


def _find(root: Path, options: Options) -> tuple[dict[str, list[Place]], dict[str, int]]:
    """The mentions of each split, and how many sentences of each file have none."""
    names = {"train": options.train_file, "test": "test.json"}
    if (root / "dev.json").is_file():
        names["val"] = "dev.json"
    elif not options.val_share:
        raise ConfigError(f"val_share is 0, and {root} has no dev.json; expected a share of {options.val_from} to hold "
                          "out, such as 0.1")  # fmt: skip
    found, without = {split: _sentences(root, name) for split, name in names.items()}, {}
    for split, sentences in found.items():
        without[names[split]] = sum(not places for places in sentences)
    if "val" not in found:
        both: tuple[list[list[Place]], list[list[Place]]] = ([], [])
        for places in found[options.val_from]:
            key = f"{options.seed} {places[0].file} {places[0].number}" if places else ""
            both[zlib.crc32(key.encode()) < options.val_share * 2**32].append(places)
        found |= {options.val_from: both[0], "val": both[1]}
    return {split: [place for places in found[split] for place in places] for split in SPLITS}, without


def _sentences(root: Path, name: str) -> list[list[Place]]:
    """The mentions of each line of a file; one of a line that is no sentence, to be rejected by name."""
    found, offset = [], 0
    try:
        with open_file(root, root / name, MOST_BYTES) as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    try:
                        count = len(_parse(line)["mentions"])
                    except ValueError:
                        count = 1
                    found.append([Place(name, number, offset, len(line), mention) for mention in range(count)])
                offset += len(line)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{root / name} cannot be read ({reason}); copy it again") from None
    return found
