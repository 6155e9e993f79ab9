"""What is known of public data sets before they are prepared, and what reading a sample takes.

Counts and sizes are those that the sets' authors publish, or of the files as they are distributed; a pack holds the
same files, so it has the same size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.config import DataSet

# Milliseconds of one core for a sample, its share of batching included: JPEGs of 500 × 375 pixels at quality 90.
# As `benchmarks.loader` measures them in one run with the other core busy, each view for itself: MAE's crop, whole
# images (plain), RandAugment (auto), MoCo's colours (jitter). Clips are of videos of 340 × 256, four of one at once as
# MAE-ST takes them, two where RandAugment changes them. Captions and dense scenes are not counted.
MILLISECONDS = {"crop": 1.1, "plain": 3.3, "auto": 2.0, "jitter": 2.0, "clip": 25.0, "clip, auto": 52.0}


@dataclass(frozen=True)
class Known:
    """A public set: samples of `train` and `val`, `classes`, and the size of its pack; None where nobody knows."""

    counts: Mapping[str, int]
    gib: float | None


# By source and, where a source has several, layout.
SETS = {
    ("imagenet", None): Known({"train": 1281167, "val": 50000, "classes": 1000}, 144.0),
    ("coco", None): Known({"train": 118287, "val": 5000, "classes": 80}, 19.5),
    ("ade20k", None): Known({"train": 20210, "val": 2000, "classes": 150}, 0.9),
    # The paper of MAE-ST had 240,000 videos to train; the size is that of videos whose shorter side has 340 pixels.
    ("kinetics", "kinetics"): Known({"train": 240000, "val": 19881, "classes": 400}, 132.0),
    ("kinetics", "ucf101"): Known({"train": 9537, "val": 3783, "classes": 101}, 6.5),
    # As many, whether or not they are heard; of packs with optical flow nobody has measured the size.
    ("sounding_videos", "kinetics"): Known({"train": 240000, "val": 19881, "classes": 400}, None),
    ("sounding_videos", "hmdb51"): Known({"train": 3570, "val": 1530, "classes": 51}, 2.0),
    # Of 12.4 million addresses about 11 million could be read in 2022; at a shorter side of 256 pixels.
    ("captions", "webdataset"): Known({"train": 11000000, "val": 11000, "classes": 1}, 300.0),
}


def known(data: DataSet) -> Known | None:
    """What is known of a set, or None."""
    layouts = (data.options.get("layout"), None)
    return next((SETS[data.source, layout] for layout in layouts if (data.source, layout) in SETS), None)


def gib(data: DataSet) -> float | None:
    """Size of a set's pack, in proportion to the samples that it is expected to have, or None."""
    found = known(data)
    if found is None or found.gib is None:
        return None
    expected = (data.options.get("expect") or {}).get("train", found.counts["train"])
    return found.gib * expected / found.counts["train"]
