"""Images with a class each, packed: what the readers of classification sets share."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.types import Count, Quality
from pipeline.data.bounded import bounded
from pipeline.data.inspection import Findings, look_at, read_picture
from pipeline.data.official import Options as Official
from pipeline.data.official import check_counts, journal_of
from pipeline.data.packed import PackWriter

KEY = "root"
Sample = tuple[str, str, int]  # name of its file below the root, its key in the pack, its class


@dataclass(frozen=True, kw_only=True)
class Options(Official):
    """What a study says about a set of images with classes.

    short_side: pixels to which larger training images are reduced, such as 256; null: all stay as they are.
    quality: of the JPEGs that those become.
    """

    short_side: Count | None = None
    quality: Quality = 90


def pack_labelled(
    options: Options, root: Path, classes: list[str], samples: Mapping[str, Sequence[Sample]], work: Path, files: Path
) -> dict[str, Any]:
    """Checks the counts of a set and packs its splits; of `train` alone images are made smaller.

    Args:
        samples: by split.

    Raises:
        ConfigError: its counts or too many of its files are not as they should be.
    """
    found = {split: len(listed) for split, listed in samples.items()} | {"classes": len(classes)}
    check_counts(KEY, root, options.expect, found)
    findings, splits = Findings(), {}
    for split, listed in samples.items():
        short_side = options.short_side if split == "train" else None  # evaluation is to be comparable
        with PackWriter(files, split, options.shard_mib * 2**20) as pack:
            for (_, key, label), picture in look_at(
                listed,
                name=lambda sample: sample[0],
                look=lambda sample, most=short_side: bounded(
                    read_picture(root, root / sample[0]), most, options.quality
                ),
                notes=lambda picture: picture.notes,
                findings=findings,
                num_workers=options.num_workers,
                what=f"packing {split}",
                packs=(pack,),
                journal=journal_of(work, split),
            ):
                pack.add(key, picture.data, label=label, height=picture.height, width=picture.width)
        splits[split] = {"count": len(pack)}
    (files / "classes.json").write_text(json.dumps(classes))
    return {
        "splits": splits,
        "classes": classes,
        **({"bounded": {"short_side": options.short_side, "quality": options.quality}} if options.short_side else {}),
        **findings.close(files, str(root), options.max_reject_share),
    }
