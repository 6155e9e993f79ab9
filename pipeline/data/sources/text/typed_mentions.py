"""Embedded mentions with types: made-up sentences about what a tree of types, two levels deep, says of their mention.

A mention has one leaf or two, and their parents. Frequencies of leaves follow Zipf; some leaves come with another one;
words are a leaf's own, a sibling's or noise, so that rare leaves are hard to tell. Written as AFET's JSON and read back
by its reader.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.types import Amount, Count, Fraction, Seed
from pipeline.data.sources.text import afet

TREE = {
    "person": ("politician", "athlete", "artist", "scientist"),
    "location": ("city", "country", "river", "mountain"),
    "organization": ("company", "team", "university", "party"),
    "event": ("match", "election", "war", "festival"),
    "product": ("software", "car", "ship", "drug"),
}
LEAVES = tuple(f"/{coarse}/{fine}" for coarse, leaves in TREE.items() for fine in leaves)
LINKED = {"/person/politician": "/organization/party", "/event/match": "/organization/team"}  # that come with another
LINK_SHARE = 0.6


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the study says about this set.

    train_items, val_items, test_items: how many mentions.
    zipf: exponent of the leaves' frequencies.
    two_share: of the mentions of a leaf without a link, that have a second leaf.
    context: tokens on either side of a mention, at most.
    own_share: of these, from a word list of a leaf of the mention.
    sibling_share: of what is left, from that of a leaf beside it.
    words_per_leaf, noise_words: sizes of the word lists.
    vocabulary_size: ids of words at most.
    seed: of all of it.
    """

    train_items: Count
    val_items: Count
    test_items: Count
    zipf: Amount
    two_share: Fraction
    context: Count
    own_share: Fraction
    sibling_share: Fraction
    words_per_leaf: Count
    noise_words: Count
    vocabulary_size: Count
    seed: Seed


def prepare(options: Options, work: Path, files: Path) -> dict[str, Any]:
    """Writes the set into `work/raw` and packs it by AFET's reader."""
    root = work / "raw"
    root.mkdir(parents=True)
    rng = np.random.default_rng([options.seed, 20])
    # The order of frequencies is drawn once, so that rare leaves stand under all parents.
    order = rng.permutation(len(LEAVES))
    counts = {"train": options.train_items, "dev": options.val_items, "test": options.test_items}
    for split, count in counts.items():
        lines = [json.dumps(sentence(options, order, number, rng)) for number in range(count)]
        (root / f"{split}.json").write_text("".join(f"{line}\n" for line in lines))
    (root / "types.txt").write_text("".join(f"{name}\n" for name in sorted({*LEAVES, *(f"/{name}" for name in TREE)})))
    written = afet.Options(
        root=str(root), layout="figer", train_file="train.json", types=str(root / "types.txt"), val_from="train",
        val_share=0.0, vocabulary_size=options.vocabulary_size, expect=None, max_reject_share=0.0, num_workers=1,
        shard_mib=1024, seed=options.seed,
    )  # fmt: skip
    return afet.prepare(written, work, files)


def sentence(options: Options, order: np.ndarray, number: int, rng: np.random.Generator) -> dict[str, Any]:
    """A sentence of one mention, as AFET has it."""
    leaves = draw_leaves(options, order, rng)
    types = sorted({*leaves, *(leaf.rpartition("/")[0] for leaf in leaves)})
    left, right = (_context(options, leaves, rng) for _ in range(2))
    name = [f"Name{rng.integers(4 * options.noise_words)}" for _ in range(rng.integers(1, 4))]
    mention = {"start": len(left), "end": len(left) + len(name), "labels": types}
    return {"tokens": [*left, *name, *right], "mentions": [mention], "senid": number, "fileid": "made"}


def draw_leaves(options: Options, order: np.ndarray, rng: np.random.Generator) -> list[str]:
    """One leaf or two; `order` holds the place of the n-th most frequent one."""
    shares = 1.0 / np.arange(1, len(LEAVES) + 1) ** options.zipf
    first, second = (LEAVES[order[place]] for place in rng.choice(len(LEAVES), 2, p=shares / shares.sum()))
    if first in LINKED:
        return [first, LINKED[first]] if rng.random() < LINK_SHARE else [first]
    return sorted({first, second}) if rng.random() < options.two_share else [first]


def _context(options: Options, leaves: list[str], rng: np.random.Generator) -> list[str]:
    """Words beside a mention, at least one."""
    words = []
    for _ in range(rng.integers(1, options.context + 1)):
        leaf = leaves[rng.integers(len(leaves))]
        own, sibling = rng.random(2)
        if own >= options.own_share:
            if sibling >= options.sibling_share:
                words.append(f"noise{rng.integers(options.noise_words)}")
                continue
            coarse = leaf.split("/")[1]
            leaf = f"/{coarse}/{TREE[coarse][rng.integers(4)]}"
        words.append(f"{leaf.rpartition('/')[2]}{rng.integers(options.words_per_leaf)}")
    return words
