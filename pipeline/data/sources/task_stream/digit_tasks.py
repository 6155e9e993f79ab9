"""Embedded streams: scikit-learn's scans of handwritten digits, written as MNIST's files and read back as those are.

What it is for: a stream of five pairs of digits, or of as many orders of pixels as wanted, that two cores learn in
seconds.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.types import Count, Fraction, Seed, Share
from pipeline.data import scans
from pipeline.data.sources.task_stream import image_tasks


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the study says about this stream.

    classes_per_task, tasks, permutations: what the tasks are, one of them; see `pipeline.data.streams.divide`. Classes
        are called `0` to `9`.
    val_share, test_share: of the scans held out to choose by, and to measure on.
    seed: of all of it.
    held_share: of the scans, kept out of it, which a set of the same seed that keeps out none shows in its test.
    """

    classes_per_task: Count | None
    tasks: tuple[tuple[str, ...], ...] | None
    permutations: Count | None
    val_share: Share
    test_share: Share
    seed: Seed
    held_share: Fraction = 0.0


def prepare(options: Options, work: Path, files: Path) -> dict[str, Any]:
    """Writes the scans into `work/raw` and packs them by the reader of MNIST."""
    root = work / "raw"
    root.mkdir(parents=True)
    parts = scans.split_scans(options.seed, options.test_share, held_share=options.held_share)
    for prefix, part in (("train", parts["train"]), ("t10k", parts["val"])):
        write_idx(root / f"{prefix}-images-idx3-ubyte", (part.ink * 255 + 0.5).astype(np.uint8))
        write_idx(root / f"{prefix}-labels-idx1-ubyte", part.classes.astype(np.uint8))
    written = image_tasks.Options(
        root=str(root), layout="mnist", classes_per_task=options.classes_per_task, tasks=options.tasks,
        permutations=options.permutations, val_share=options.val_share, seed=options.seed, expect=None,
        max_reject_share=0.0, shard_mib=1024, num_workers=1,
    )  # fmt: skip
    return image_tasks.prepare(written, work, files)


def write_idx(path: Path, values: np.ndarray) -> None:
    """Writes an array of bytes as MNIST's files are."""
    path.write_bytes(bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes() + values.tobytes())
