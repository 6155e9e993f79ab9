"""Kinetics-400, -600 and -700, and every set of short videos whose classes and splits are told by lists.

Kay et al., "The Kinetics Human Action Video Dataset", 2017, arXiv:1705.06950. The layouts of Something-Something V2,
UCF101 and HMDB51 are read by the same code; a class is a name's position in sorted order.
"""

import csv
import io
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import ConfigError
from pipeline.config.types import Count, Fraction, Natural
from pipeline.data.inspection import Findings, look_at
from pipeline.data.official import check_counts, check_root, journal_of
from pipeline.data.outside import read_file, read_list, read_text
from pipeline.data.packed import Packed, PackWriter
from pipeline.data.video import probe

KEY = "root"
MOST_BYTES = 2**28  # of a video
SUFFIXES = (".mp4", ".mkv", ".webm", ".avi")

Listed = dict[str, list[tuple[str, str]]]  # split -> (path without or with suffix, name of class)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a study says about a set of videos that the user keeps.

    root: its folder.
    layout: `kinetics`, `ssv2`, `ucf101` or `hmdb51`.
    fold: 1 to 3 of the official splits of UCF101 and HMDB51; the other layouts have one.
    min_frames: videos with fewer are rejected.
    expect: numbers of `train` and `val` videos and of `classes`, checked before videos are read; null: none.
    max_reject_share: largest share of its videos that may be unusable; some of Kinetics is always gone.
    num_workers: threads that read and decode.
    shard_mib: size of a pack's shards; 0 for one a file.
    """

    root: str | None
    layout: str
    fold: Count
    min_frames: Count
    expect: Mapping[str, Natural] | None
    max_reject_share: Fraction
    num_workers: Count
    shard_mib: Natural


@dataclass(frozen=True)
class Video:
    """A file that holds a video: its bytes, and what is in them."""

    data: bytes
    frames: int
    fps: float
    height: int
    width: int


def prepare(options: Options, work: Path, files: Path) -> dict[str, Any]:
    """Checks and packs the set, each video as the file it is.

    Raises:
        ConfigError: the root, its layout, its counts or too many of its files are not as they should be.
    """
    root, listed, classes = list_videos(options)
    labels = {name: label for label, name in enumerate(classes)}
    findings, splits = Findings(), {}
    for split, videos in listed.items():
        known: dict[str, tuple[int, float]] = {}  # frames, and how many of them a second has
        with PackWriter(files, split, options.shard_mib * 2**20) as pack:
            for (path, name), video in look_at(
                videos,
                name=lambda sample: sample[0],
                look=lambda sample: read_video(root, sample[0], options.min_frames),
                notes=lambda video: (),
                findings=findings,
                num_workers=options.num_workers,
                what=f"packing {split}",
                packs=(pack,),
                journal=journal_of(work, split),
            ):
                pack.add(path, video.data, label=labels[name], height=video.height, width=video.width)
                known[path] = video.frames, video.fps
        write_lengths(files, split, root, known, options.min_frames)
        splits[split] = {"count": len(pack)}
    (files / "classes.json").write_text(json.dumps(classes))
    return {"splits": splits, "classes": classes, **findings.close(files, str(root), options.max_reject_share)}


def list_videos(options: Any) -> tuple[Path, Listed, list[str]]:
    """The root, the videos of each split, and the names of classes in order, as the set's lists say.

    Args:
        options: of this source, or of another with the same `root`, `layout`, `fold` and `expect`.

    Raises:
        ConfigError: the root, its layout or its counts are not as they should be.
    """
    if options.layout not in LAYOUTS:
        raise ConfigError(f"layout is {options.layout!r}; available: {sorted(LAYOUTS)}")
    needed, expected, read = LAYOUTS[options.layout]
    root = check_root(options.root, KEY, expected, needed)
    listed = read(root, options.fold)
    for split, videos in listed.items():
        if not videos:
            raise ConfigError(f"{KEY} is {str(root)!r}, whose list of {split} names no videos. {expected}")
    classes = sorted({name for videos in listed.values() for _, name in videos})
    check_counts(KEY, root, options.expect, {**{s: len(v) for s, v in listed.items()}, "classes": len(classes)})
    return root, listed, classes


def write_lengths(files: Path, split: str, root: Path, known: Mapping[str, tuple[int, float]], min_frames: int) -> None:
    """Writes how many frames each packed video has, and how many of them a second.

    Args:
        known: by path; of those that an attempt packed which was cut off, read again.
    """
    lengths = []
    for path in Packed(files, split).keys:
        video = None if path in known else read_video(root, path, min_frames)
        lengths.append(known[path] if video is None else (video.frames, video.fps))
    frames, fps = np.array(lengths, np.float64).reshape(-1, 2).T
    np.savez(files / f"{split}.videos.npz", frames=frames.astype(np.int64), fps=fps)


def read_video(root: Path, path: str, min_frames: int) -> Video:
    """Reads a video, and decodes its first and last frames.

    Args:
        path: below the root, with or without its suffix.

    Raises:
        ValueError: it is broken, empty or too short, or holds no video, or `pipeline.data.outside` refuses it.
        FileNotFoundError: there is none.
    """
    whole = root / path
    there = [whole] if whole.suffix in SUFFIXES else [whole.with_name(whole.name + suffix) for suffix in SUFFIXES]
    found = next((file for file in there if os.path.lexists(file)), None)
    if found is None:
        raise FileNotFoundError(f"no such file, as {' or '.join(SUFFIXES)}")
    data = read_file(root, found, MOST_BYTES)
    held, height, width = probe(data)
    if len(held) < min_frames:
        raise ValueError(f"{len(held)} frames, fewer than min_frames, {min_frames}")
    return Video(data, len(held), held.fps, height, width)


def _kinetics(root: Path, fold: int) -> Listed:
    """Rows `label,youtube_id,time_start,time_end,split`; files `<split>/[<label>/]<id>_<start>_<end>.mp4`."""
    listed: Listed = {}
    for split in ("train", "val"):
        path, listed[split] = root / f"{split}.csv", []
        rows = csv.DictReader(io.StringIO(read_text(root, path, "Expected: a table"), newline=""))
        needed = ("label", "youtube_id", "time_start", "time_end")
        if not set(needed) <= set(rows.fieldnames or ()):
            raise ConfigError(f"{path} has the columns {list(rows.fieldnames or ())[:8]}; expected {sorted(needed)}")
        try:
            for row in rows:
                label, video, *times = (row[key] for key in needed)
                name = "_".join([video, *(f"{int(float(seconds)):06d}" for seconds in times)])
                place = f"{split}/{label}" if (root / split / label).is_dir() else split
                listed[split].append((f"{place}/{name}", label))
        except (TypeError, ValueError, OverflowError, csv.Error) as error:
            raise ConfigError(f"{path}, line {rows.line_num}: {error}; expected {', '.join(needed)}") from None
    return listed


def _ssv2(root: Path, fold: int) -> Listed:
    """`labels/{train,validation}.json`, a template in square brackets being the class; files `videos/<id>.webm`."""
    listed: Listed = {}
    for split, name in (("train", "train"), ("val", "validation")):
        path, listed[split] = root / f"labels/{name}.json", []
        try:
            rows = json.loads(read_list(root, path, "Expected: a list in JSON"))
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{path} is not whole JSON ({error}); copy it again") from None
        for place, row in enumerate(rows if isinstance(rows, list) else [rows]):
            entry = (row.get("id"), row.get("template")) if isinstance(row, dict) else (None, None)
            if not all(isinstance(word, str) and word for word in entry):
                raise ConfigError(f"{path}, entry {place} is {str(row)[:60]}; expected an id and a template")
            listed[split].append((f"videos/{entry[0]}", re.sub(r"[\[\]]", "", entry[1])))
    return listed


def _ucf101(root: Path, fold: int) -> Listed:
    """`ucfTrainTestlist/{train,test}list0<fold>.txt`: `<class>/<file>.avi` and, to train, a number."""
    listed: Listed = {}
    for split, name in (("train", "train"), ("val", "test")):
        path = root / f"ucfTrainTestlist/{name}list{fold:02d}.txt"
        if not path.is_file():
            raise ConfigError(f"fold is {fold}, and there is no {path}; available: 1, 2, 3")
        lines = read_text(root, path, "Expected: a list of files").splitlines()
        paths = [line.split()[0] for line in lines if line.strip()]
        listed[split] = [(f"UCF-101/{path}", path.split("/")[0]) for path in paths]
    return listed


def _hmdb51(root: Path, fold: int) -> Listed:
    """`splits/<class>_test_split<fold>.txt`: `<file>.avi` and 1 to train, 2 to test, 0 for neither."""
    lists = sorted((root / "splits").glob(f"*_test_split{fold}.txt"))
    if not lists:
        raise ConfigError(f"fold is {fold}, and no splits/*_test_split{fold}.txt are there; available: 1, 2, 3")
    listed: Listed = {"train": [], "val": []}
    for path in lists:
        name = path.name.removesuffix(f"_test_split{fold}.txt")
        for line in read_text(root, path, "Expected: a list of files").splitlines():
            file, _, use = line.strip().rpartition(" ")
            if use in ("1", "2"):
                listed["train" if use == "1" else "val"].append((f"{name}/{file.strip()}", name))
    return listed


# For each layout what must be there, what is expected and where it is to be had, and the reader of its lists.
LAYOUTS: dict[str, tuple[tuple[str, ...], str, Callable[[Path, int], Listed]]] = {
    "kinetics": (
        ("train.csv", "val.csv", "train", "val"),
        "Expected: train.csv and val.csv with label, youtube_id, time_start and time_end, and "
        "train/<label>/<id>_<start>_<end>.mp4, the times with six digits. "
        "Lists and archives: cvdfoundation/kinetics-dataset",
        _kinetics,
    ),
    "ssv2": (
        ("labels/train.json", "labels/validation.json", "videos"),
        "Expected: labels/{train,validation}.json and videos/<id>.webm. "
        "Something-Something V2 is to be had from Qualcomm",
        _ssv2,
    ),
    "ucf101": (
        ("ucfTrainTestlist", "UCF-101"),
        "Expected: ucfTrainTestlist/ and UCF-101/<class>/*.avi, from the Center for Research in Computer Vision, UCF",
        _ucf101,
    ),
    "hmdb51": (
        ("splits",),
        "Expected: splits/ and <class>/*.avi, from the Serre lab, Brown University",
        _hmdb51,
    ),
}
