"""Streams of text tasks from the files of WebNLP (Zhang et al. 2015) and of GLUE (Wang et al. 2019).

Each task is a classification set of its own; the order in which a study names them is that of the stream. A part of
each class's training texts is held out to choose by (`val`); WebNLP's test files, and GLUE's development files, whose
labels are public, are `test`. Rows are lines. One that is broken, without a text or in another encoding is a reject by
name; drawn ones are not replaced.
"""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from pipeline.config import ConfigError
from pipeline.config.types import Count, Fraction, Natural, Seed, Share
from pipeline.data.inspection import Findings
from pipeline.data.official import check_counts, check_root
from pipeline.data.outside import open_file
from pipeline.data.sources.text.documents import WORDS
from pipeline.data.streams import write_stream
from pipeline.data.texts import SPLITS, Text, decode, finish, pack, read_split
from pipeline.data.word_vectors import write_vectors

KEY = "root"
MOST_BYTES = 2**36  # of a file of rows
BETWEEN = "|"  # the two texts of a pair; a token that GloVe has a vector of
EXPECTED = {
    "webnlp": "Expected: a folder for each task, such as ag, yelp, amazon, yahoo and dbpedia, with train.csv and "
    "test.csv as Zhang et al. 2015 distribute them (label, title, text)",
    "glue": "Expected: the folders of gluebenchmark.com, such as CoLA and SST-2, with train.tsv and dev.tsv "
    "(MNLI: dev_matched.tsv)",
}
Parse = Callable[[str], tuple[str, str, list[str]]]  # of a line: its label, its text and notes


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a study says about a stream whose texts the user keeps.

    root: its folder.
    layout: whose files they are: of `webnlp`, tasks are named by their folders; of `glue`, see `GLUE`.
    tasks: of the stream, in order. Classes are called `ag: 1` and so on.
    per_class: training texts of each class that are drawn, and as many validation texts; or
    val_share: of each class's training texts, held out; all others are taken. One of the two.
    vectors: file of the words' frozen vectors, in GloVe's or FastText's text format; null: drawn.
    vector_width: numbers in each.
    vocabulary_size: ids of words at most.
    seed: of what is drawn and held out.
    expect: numbers of `train`, `val` and `test` rows and of `classes`; null: none.
    max_reject_share: largest share of its texts that may be unusable.
    num_workers: threads that read; null: one for each CPU of the process.
    shard_mib: size of a pack's shards; 0 for one a text.
    """

    root: str | None
    layout: Literal["webnlp", "glue"]
    tasks: tuple[str, ...]
    per_class: Count | None
    val_share: Share | None
    vectors: str | None
    vector_width: Count
    vocabulary_size: Count
    seed: Seed
    expect: Mapping[str, Natural] | None
    max_reject_share: Fraction
    num_workers: Count | None
    shard_mib: Natural


class Glue(NamedTuple):
    """A task of GLUE: folder, columns of its texts and of its label, what that may be, and its development file."""

    folder: str
    texts: tuple[str, ...]
    label: str
    labels: tuple[str, ...]
    test: str = "dev.tsv"
    columns: tuple[str, ...] = ()  # of files without a line of them


PAIR, TWO, ENTAILS = ("sentence1", "sentence2"), ("0", "1"), ("entailment", "not_entailment")
GLUE = {
    "cola": Glue("CoLA", ("sentence",), "label", TWO, columns=("source", "label", "star", "sentence")),
    "sst2": Glue("SST-2", ("sentence",), "label", TWO),
    "qqp": Glue("QQP", ("question1", "question2"), "is_duplicate", TWO),
    "qnli": Glue("QNLI", ("question", "sentence"), "label", ENTAILS),
    "mnli": Glue("MNLI", PAIR, "gold_label", ("contradiction", "entailment", "neutral"), "dev_matched.tsv"),
    "mrpc": Glue("MRPC", ("#1 String", "#2 String"), "Quality", TWO),
    "rte": Glue("RTE", PAIR, "label", ENTAILS),
    "wnli": Glue("WNLI", PAIR, "label", TWO),
}


class Row(NamedTuple):
    """A line of a file: its task, which bytes it has, how it is read, and its label, if it has one."""

    name: str
    task: str
    path: Path
    offset: int
    length: int
    parse: Parse
    label: str


def prepare(options: Options, work: Path, files: Path) -> dict[str, Any]:
    """Checks and packs the set, and writes what its tasks are, and its words' vectors.

    Raises:
        ConfigError: the root, its layout, its tasks, its counts or the vectors are not as they should be.
    """
    if (options.per_class is None) == (options.val_share is None):
        raise ConfigError(f"per_class is {options.per_class} and val_share is {options.val_share}; expected one of "
                          "them, the other null")  # fmt: skip
    root, layout = check_root(options.root, KEY, EXPECTED[options.layout], ()), EXPECTED[options.layout]
    paths = _paths(root, options)
    check_root(options.root, KEY, layout, [path for pair in paths.values() for path in pair])
    samples: dict[str, list[Row]] = {split: [] for split in SPLITS}
    labels: dict[str, tuple[str, ...]] = {}
    for number, (task, (train, test)) in enumerate(paths.items()):
        rows = _rows(root, task, train, options.layout)
        seen = {row.label for row in rows}
        labels[task] = GLUE[task].labels if options.layout == "glue" else tuple(sorted(seen - {""}, key=int))
        if len(labels[task]) < 2:
            raise ConfigError(f"{root / train} has the labels {list(labels[task])}; expected two or more to tell "
                              f"apart. {layout}")  # fmt: skip
        drawn = draw(rows, labels[task], options, np.random.default_rng([options.seed, 0, number]))
        for split, own in zip(SPLITS, (*drawn, _rows(root, task, test, options.layout)), strict=True):
            samples[split] += own
    names = {task: [f"{task}: {label}" for label in own] for task, own in labels.items()}
    counts = {split: len(rows) for split, rows in samples.items()}
    check_counts(KEY, root, options.expect, counts | {"classes": sum(map(len, names.values()))})
    findings, look = Findings(), partial(_look, root, labels)
    for split, rows in samples.items():
        pack(split, rows, lambda row: row.name, look, findings, options, work, files)
    told = finish(files, options.vocabulary_size, {name: 1 for own in names.values() for name in own})
    classes = told["classes"]
    for split in SPLITS:
        if absent := sorted(set(range(len(classes))) - set(read_split(files, split).labels.tolist())):
            raise ConfigError(f"{KEY} is {str(root)!r}, which has no {split} texts of {classes[absent[0]]!r}")
    (files / "classes.json").write_text(json.dumps(classes))
    places = {name: place for place, name in enumerate(classes)}
    write_stream(files, [{"name": task, "classes": [places[name] for name in own], "permutation": None}
                         for task, own in names.items()])  # fmt: skip
    vectors = write_vectors(files, options.vectors, options.vector_width, options.seed)
    rejects = findings.close(files, str(root), options.max_reject_share)
    return {**told, "tasks": len(names), "vectors": vectors, **rejects}


def draw(
    rows: Sequence[Row], labels: Sequence[str], options: Options, rng: np.random.Generator
) -> tuple[list[Row], list[Row]]:
    """Training and validation rows of a task, class by class; rows without a label are training rows, to be rejected.

    Raises:
        ConfigError: a class has too few.
    """
    by_label: dict[str, list[Row]] = {label: [] for label in labels}
    train, val = [row for row in rows if row.label not in by_label], []
    for row in rows:
        if row.label in by_label:
            by_label[row.label].append(row)
    for label, own in by_label.items():
        order, count = (
            rng.permutation(len(own)).tolist(),
            options.per_class or round((options.val_share or 0) * len(own)),
        )
        used = 2 * count if options.per_class else count + 1
        if not 0 < count <= used <= len(own):
            said = f"per_class is {count}" if options.per_class else f"val_share is {options.val_share}"
            raise ConfigError(
                f"{said}, and {rows[0].task!r} has {len(own)} training texts of the class {label!r}; expected "
                f"{f'at least {used}' if options.per_class else 'some on both sides'}"
            )
        val += [own[place] for place in order[-count:]]
        train += [own[place] for place in (order[:count] if options.per_class else order[:-count])]
    return train, val


def _paths(root: Path, options: Options) -> dict[str, tuple[str, str]]:
    """Training and test file of each task, below the root, in the order of the stream."""
    glue = options.layout == "glue"
    known = list(GLUE) if glue else sorted(path.name for path in root.iterdir() if path.is_dir())
    layout = EXPECTED[options.layout]
    if unknown := [task for task in options.tasks if task not in known]:
        raise ConfigError(f"tasks names {unknown}, which {options.layout} in {str(root)!r} does not have; available: "
                          f"{known}. {layout}")  # fmt: skip
    if not options.tasks or len(set(options.tasks)) < len(options.tasks):
        raise ConfigError(f"tasks is {list(options.tasks)}; expected at least one, each once; available: {known}")
    if glue:
        own = {task: GLUE[task] for task in options.tasks}
        return {task: (f"{found.folder}/train.tsv", f"{found.folder}/{found.test}") for task, found in own.items()}
    return {task: (f"{task}/train.csv", f"{task}/test.csv") for task in options.tasks}


def _rows(root: Path, task: str, name: str, layout: str) -> list[Row]:
    """The rows of a file, those that cannot be read among them."""
    found, offset, parse = [], 0, parse_csv
    try:
        with open_file(root, root / name, MOST_BYTES) as file:
            if layout == "glue":
                columns = GLUE[task].columns
                if not columns:
                    line = file.readline()
                    columns, offset = tuple(decode(line, "utf-8-sig").rstrip("\r\n").split("\t")), len(line)
                parse = tsv_parser(GLUE[task], columns)
            for number, line in enumerate(file, 1 + (offset > 0)):
                if line.strip():
                    try:
                        label = parse(decode(line))[0]
                    except ValueError:
                        label = ""
                    found.append(Row(f"{name}, line {number}", task, root / name, offset, len(line), parse, label))
                offset += len(line)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{root / name} cannot be read ({reason}); copy it again. {EXPECTED[layout]}") from None
    return found


def _look(root: Path, labels: Mapping[str, Sequence[str]], row: Row) -> tuple[Text, list[str]]:
    with open_file(root, row.path, MOST_BYTES) as file:
        file.seek(row.offset)
        label, text, notes = row.parse(decode(file.read(row.length)))
    if label not in labels[row.task]:
        raise ValueError(f"the label is {label[:40]!r}; expected one of {list(labels[row.task])}")
    return Text(WORDS.findall(text.lower()), 0, 0, [f"{row.task}: {label}"]).check(), notes


def parse_csv(line: str) -> tuple[str, str, list[str]]:
    """A row of WebNLP: the third column is the text; the second, where there is no third or nothing in it.

    Raises:
        ValueError: it is no row, or its label is no number.
    """
    try:
        (fields,) = csv.reader([line], strict=True)
    except (csv.Error, ValueError) as error:
        raise ValueError(f"no row of CSV ({error})") from None
    if len(fields) < 2:
        raise ValueError(f"{len(fields)} columns; expected label, title and text, or label and text")
    label, second, third = (field.strip() for field in [*fields, ""][:3])
    if not (label.isascii() and label.isdecimal()):
        raise ValueError(f"the label is {label[:40]!r}; expected a whole number")
    notes = ["no text in the third column; the second is taken"] if len(fields) > 2 and not third else []
    return label, (third or second).replace("\\n", " "), notes  # how these files have line breaks


def tsv_parser(task: Glue, columns: Sequence[str]) -> Parse:
    """What reads the rows of a file of GLUE.

    Raises:
        ValueError: it lacks a column.
    """
    if lacks := [name for name in (*task.texts, task.label) if name not in columns]:
        raise ValueError(f"its columns are {list(columns)[:20]}; expected {lacks} among them")
    texts, label = [columns.index(name) for name in task.texts], columns.index(task.label)

    def parse(line: str) -> tuple[str, str, list[str]]:
        fields = line.rstrip("\r\n").split("\t")
        if len(fields) != len(columns):
            raise ValueError(f"{len(fields)} columns; expected {len(columns)}")
        own = [fields[place].strip() for place in texts]
        if not all(own):
            raise ValueError("no tokens")
        return fields[label].strip(), f" {BETWEEN} ".join(own), []

    return parse
