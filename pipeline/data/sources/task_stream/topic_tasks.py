"""Embedded streams of texts: made-up words about topics, written as WebNLP's files and read back as those are.

Each task tells a few topics apart. Words of a text are its topic's, or noise that all topics of all tasks share.
"""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.types import Count, Fraction, Seed
from pipeline.data.sources.task_stream import text_tasks


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the study says about this stream.

    num_tasks: of the stream, called `topics1` and so on.
    topics_per_task: its classes.
    per_class, test_per_class: texts of each topic to train on, and as many to choose by; to measure on.
    length: words of a text at most; at least half as many.
    own_share: of these, from the word list of the topic.
    words_per_topic, noise_words: sizes of the word lists.
    vector_width: of the words' vectors, which are drawn.
    seed: of all of it.
    """

    num_tasks: Count
    topics_per_task: Count
    per_class: Count
    test_per_class: Count
    length: Count
    own_share: Fraction
    words_per_topic: Count
    noise_words: Count
    vector_width: Count
    seed: Seed


def prepare(options: Options, work: Path, files: Path) -> dict[str, Any]:
    """Writes the texts into `work/raw` and packs them by the reader of WebNLP."""
    root, rng = work / "raw", np.random.default_rng([options.seed, 21])
    tasks = tuple(f"topics{number}" for number in range(1, options.num_tasks + 1))
    for task in tasks:
        (root / task).mkdir(parents=True)
        for name, count in (("train", 2 * options.per_class), ("test", options.test_per_class)):
            topics = rng.permutation(np.repeat(np.arange(1, options.topics_per_task + 1), count))
            rows = [[topic, f"about {task}", text(options, f"{task}x{topic}x", rng)] for topic in topics.tolist()]
            with open(root / task / f"{name}.csv", "w", newline="") as file:
                csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    known = options.num_tasks * options.topics_per_task * options.words_per_topic + options.noise_words
    written = text_tasks.Options(
        root=str(root), layout="webnlp", tasks=tasks, per_class=options.per_class, val_share=None, vectors=None,
        vector_width=options.vector_width, vocabulary_size=known + 2, seed=options.seed, expect=None,
        max_reject_share=0.0, num_workers=1, shard_mib=1024,
    )  # fmt: skip
    return text_tasks.prepare(written, work, files)


def text(options: Options, topic: str, rng: np.random.Generator) -> str:
    """A text of some words."""
    own = rng.random(rng.integers((options.length + 1) // 2, options.length + 1)) < options.own_share
    lists = ((topic, options.words_per_topic) if its else ("noise", options.noise_words) for its in own)
    return " ".join(f"{name}{rng.integers(count)}" for name, count in lists)
