"""Documents with sets of topics: Reuters-21578 as NLTK lays it out, and RCV1-v2's token files.

Reuters (ApteMod): `training/<id>` and `test/<id>`, and `cats.txt` with a line `training/1 cocoa grain` for each. RCV1
(Lewis et al., JMLR 2004, online appendices 8 and 12): documents of stemmed words, `.I <id>`, `.W`, words; topics and
their tree in files of their own. Without topics, with one that the tree lacks, twice there or in another encoding: a
reject by name.
"""

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pipeline.config import ConfigError
from pipeline.config.types import BelowOne, Count, Fraction, Natural, Seed
from pipeline.data.inspection import Findings
from pipeline.data.official import check_counts, check_root
from pipeline.data.outside import open_file, read_file, read_text
from pipeline.data.texts import SPLITS, Text, decode, finish, pack

KEY = "root"
MOST_BYTES, DOCUMENT_BYTES = 2**36, 2**24  # of a file of tokens, and of one document
EXPECTED = {
    "reuters": "Expected: training/, test/ and cats.txt, as in NLTK's corpus reuters (ApteMod)",
    "rcv1": "Expected: lyrl2004_tokens_train.dat, lyrl2004_tokens_test_pt0.dat to ..._pt3.dat, rcv1-v2.topics.qrels, "
    "rcv1.topics.hier.orig, unpacked, from the online appendices of Lewis et al. 2004",
}
TOKENS = ("lyrl2004_tokens_train.dat", *(f"lyrl2004_tokens_test_pt{part}.dat" for part in range(4)))
TOPICS, TREE = "rcv1-v2.topics.qrels", "rcv1.topics.hier.orig"
WORDS = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a study says about a set of documents that the user keeps.

    root: its folder.
    layout: `reuters` or `rcv1`.
    encoding: of Reuters's documents; NLTK reads them as `iso-8859-2`.
    val_share: of the training documents, held out for validation.
    vocabulary_size: ids of words at most.
    expect: numbers of `train`, `val` and `test` documents and of `topics`; null: none.
    max_reject_share: largest share of the documents that may be unusable.
    num_workers: threads that read; null: one for each CPU of the process.
    shard_mib: size of a pack's shards; 0 for one a document.
    seed: of what is held out.
    """

    root: str | None
    layout: Literal["reuters", "rcv1"]
    encoding: Literal["utf-8", "iso-8859-2"]
    val_share: BelowOne
    vocabulary_size: Count
    expect: Mapping[str, Natural] | None
    max_reject_share: Fraction
    num_workers: Count | None
    shard_mib: Natural
    seed: Seed


class Document(NamedTuple):
    """A document: its name, its file and which bytes of it (0, 0: all), and its topics; why it is none, if so."""

    name: str
    path: Path
    offset: int
    length: int
    topics: tuple[str, ...]
    problem: str = ""


def prepare(options: Options, work: Path, files: Path) -> dict[str, Any]:
    """Checks and packs the set.

    Raises:
        ConfigError: the root, its layout, its counts or too many documents are not as they should be.
    """
    if not options.val_share:
        raise ConfigError("val_share is 0; expected a share of the training documents to hold out, such as 0.1")
    root, splits, depths = (_reuters if options.layout == "reuters" else _rcv1)(options)
    held = {True: [], False: []}  # type: dict[bool, list[Document]]
    for document in splits["train"]:
        held[zlib.crc32(f"{options.seed} {document.name}".encode()) < options.val_share * 2**32].append(document)
    splits |= {"train": held[False], "val": held[True]}
    findings = Findings()
    for split in SPLITS:
        look = partial(_look, root, options, depths)
        pack(split, splits[split], lambda document: document.name, look, findings, options, work, files)
    told = finish(files, options.vocabulary_size, depths)
    counts = {split: told["splits"][split]["count"] for split in SPLITS} | {"topics": len(told["classes"])}
    check_counts(KEY, root, options.expect, counts)
    return {**told, **findings.close(files, str(root), options.max_reject_share)}


def _look(root: Path, options: Options, depths: Mapping[str, int], document: Document) -> tuple[Text, list[str]]:
    if document.problem:
        raise ValueError(document.problem)
    for topic in document.topics:
        if topic not in depths:
            raise ValueError(f"the topic {topic!r} is outside the hierarchy")
    if options.layout == "reuters":
        text = decode(read_file(root, document.path, DOCUMENT_BYTES), options.encoding)
        return Text(WORDS.findall(text.lower()), 0, 0, list(document.topics)).check(), []
    with open_file(root, document.path, MOST_BYTES) as file:
        file.seek(document.offset)
        return Text(decode(file.read(document.length)).split(), 0, 0, list(document.topics)).check(), []


def _reuters(options: Options) -> tuple[Path, dict[str, list[Document]], dict[str, int]]:
    layout = EXPECTED["reuters"]
    root = check_root(options.root, KEY, layout, ("training", "test", "cats.txt"))
    topics: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(read_text(root, root / "cats.txt", layout).splitlines(), 1):
        name, *named = line.split() or [""]
        if not re.fullmatch(r"(training|test)/\d+", name) or name in topics:
            raise ConfigError(f"{root / 'cats.txt'}, line {number}, is {line[:80]!r}; expected a document, once, "
                              f"with its topics, such as 'training/1 cocoa'. {layout}")  # fmt: skip
        topics[name] = tuple(sorted(set(named)))
    found = {}
    for split, folder in (("train", "training"), ("test", "test")):
        there = {f"{folder}/{path.name}" for path in (root / folder).iterdir()}
        listed = {name for name in topics if name.startswith(f"{folder}/")}
        found[split] = [
            Document(name, root / name, 0, 0, topics.get(name, ()), "" if name in topics else "not in cats.txt")
            for name in sorted(there | listed)
        ]
    return root, found, {topic: 1 for named in topics.values() for topic in named}


def _rcv1(options: Options) -> tuple[Path, dict[str, list[Document]], dict[str, int]]:
    layout = EXPECTED["rcv1"]
    root = check_root(options.root, KEY, layout, (*TOKENS, TOPICS, TREE))
    depths = _depths(root, layout)
    topics: dict[str, set[str]] = {}
    for line in read_text(root, root / TOPICS, layout).splitlines():
        topic, number, *_ = [*line.split(), "", ""]
        topics.setdefault(number, set()).add(topic)
    seen: set[str] = set()
    parts = [_documents(root, name, topics, seen) for name in TOKENS]
    return root, {"train": parts[0], "test": [document for part in parts[1:] for document in part]}, depths


def _depths(root: Path, layout: str) -> dict[str, int]:
    """The depth of each topic, from lines of `parent: CCAT child: C11 child-description: ...`; 1 below the root."""
    parents = {}
    for number, line in enumerate(read_text(root, root / TREE, layout).splitlines(), 1):
        told = re.match(r"\s*parent:\s*(\S+)\s+child:\s*(\S+)", line)
        if line.strip() and told is None:
            raise ConfigError(
                f"{root / TREE}, line {number}, is {line[:80]!r}; expected a parent and a child. {layout}"
            )
        if told is not None and told[2] != "Root":
            parents[told[2]] = told[1]
    depths = {}
    for topic in parents:
        chain = [topic]
        while chain[-1] in parents and len(chain) <= len(parents):
            chain.append(parents[chain[-1]])
        if len(chain) > len(parents) or chain[-1] != "Root":
            raise ConfigError(f"{root / TREE}: the parents of {topic} do not lead to Root. {layout}")
        depths[topic] = len(chain) - 1
    return depths


def _documents(root: Path, name: str, topics: Mapping[str, set[str]], seen: set[str]) -> list[Document]:
    """The documents of a file of tokens, in order."""
    found: list[Document] = []
    number, start, offset = "", 0, 0
    with open_file(root, root / name, MOST_BYTES) as file:

        def close() -> None:
            if number:
                problem = f"document {number} is there twice" if number in seen else ""
                own = tuple(sorted(topics.get(number, ())))
                found.append(Document(f"{name}, document {number}", root / name, start, offset - start, own, problem))
                seen.add(number)

        for line in file:
            if line.startswith(b".I"):
                close()
                number = line[2:].strip().decode("ascii", "replace") or "without a number"
            offset += len(line)
            if line.startswith((b".I", b".W")):
                start = offset
        close()
    return found
