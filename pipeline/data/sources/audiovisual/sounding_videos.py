"""Videos with what else they hold: the sets of `kinetics`, whose flow and sound are computed once and kept beside them.

A video without a stream of sound stays, one whose sound is broken or shorter than a window is rejected.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from pipeline.config import ConfigError
from pipeline.config.types import Count, Fraction, Natural, Positive
from pipeline.data.flow import LEVELS, STILL, optical_flow, pack, pack_flow, unpack
from pipeline.data.inspection import Findings, look_at
from pipeline.data.official import journal_of
from pipeline.data.packed import Packed, PackWriter
from pipeline.data.sound import log_mel, read_sound
from pipeline.data.sources.video import kinetics
from pipeline.data.video import read_frames

SAMPLED = 256  # videos of which the statistics are


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a study says about a set of videos that the user keeps.

    root, layout, fold, min_frames, expect, max_reject_share, num_workers, shard_mib: as of the source `kinetics`.
    flow: estimator.
    flow_size: pixels of the short side at which it is computed and kept.
    flow_bound: pixels from one frame to the next beyond which it is cut.
    sound_rate: samples per second to which sound is brought.
    mel_bands: of the spectrogram.
    sound_window, sound_hop: seconds.
    """

    root: str | None
    layout: str
    fold: Count
    min_frames: Count
    expect: Mapping[str, Natural] | None
    max_reject_share: Fraction
    num_workers: Count
    shard_mib: Natural
    flow: Literal["dis", "farneback"]
    flow_size: Count
    flow_bound: Positive
    sound_rate: Count
    mel_bands: Count
    sound_window: Positive
    sound_hop: Positive

    def __post_init__(self) -> None:
        if self.min_frames < 2:
            raise ConfigError(f"min_frames is {self.min_frames}; expected 2 or more, between which there is flow")
        if self.sound_hop > self.sound_window:
            raise ConfigError(f"sound_hop is {self.sound_hop} s; expected at most sound_window, {self.sound_window} s")
        if self.window // 2 < self.mel_bands:
            raise ConfigError(f"mel_bands is {self.mel_bands}; expected at most half of the {self.window} samples of "
                              "a window; lower it, or raise sound_rate or sound_window")  # fmt: skip

    @property
    def window(self) -> int:
        return round(self.sound_window * self.sound_rate)

    @property
    def hop(self) -> int:
        return max(1, round(self.sound_hop * self.sound_rate))


class Sounding(NamedTuple):
    """A video with its flow (T - 1, 2, h, w) and the spectrogram of its sound (F, N), None without any."""

    video: kinetics.Video
    flow: np.ndarray
    sound: np.ndarray | None


def prepare(options: Options, work: Path, files: Path) -> dict[str, Any]:
    """Checks and packs the set: each video as the file it is, its flow and its spectrogram.

    Raises:
        ConfigError: the root, its layout, its counts or too many of its files are not as they should be.
    """
    root, listed, classes = kinetics.list_videos(options)
    labels = {name: label for label, name in enumerate(classes)}
    findings, splits = Findings(), {}
    for split, videos in listed.items():
        packs = [PackWriter(files, f"{split}{part}", options.shard_mib * 2**20) for part in ("", "-flow", "-sound")]
        known: dict[str, tuple[int, float]] = {}
        with packs[0], packs[1], packs[2]:
            for (path, name), seen in look_at(
                videos,
                name=lambda sample: sample[0],
                look=lambda sample: look(root, sample[0], options),
                notes=notes,
                findings=findings,
                num_workers=options.num_workers,
                what=f"packing {split}",
                packs=packs,
                journal=journal_of(work, split),
            ):
                video, (_, _, *size), heard = seen.video, seen.flow.shape, seen.sound
                packs[0].add(path, video.data, label=labels[name], height=video.height, width=video.width)
                packs[1].add(path, pack_flow(seen.flow, options.flow_bound), height=size[0], width=size[1])
                height, width = (0, 0) if heard is None else heard.shape
                data = b"-" if heard is None else pack(heard.astype(np.float16))  # a memory map cannot be empty
                packs[2].add(path, data, height=height, width=width)
                known[path] = video.frames, video.fps
        kinetics.write_lengths(files, split, root, known, options.min_frames)
        splits[split] = {
            "count": len(packs[0]),
            "silent": int((Packed(files, f"{split}-sound").sizes[:, 0] == 0).sum()),
        }
    (files / "classes.json").write_text(json.dumps(classes))
    (files / "modalities.json").write_text(json.dumps(_statistics(files, options), indent=1))
    return {"splits": splits, "classes": classes, **findings.close(files, str(root), options.max_reject_share)}


def look(root: Path, path: str, options: Options) -> Sounding:
    """Reads a video, its flow and its sound.

    Raises:
        ValueError: it is broken, too short, or its sound is.
        FileNotFoundError: there is none.
    """
    video = kinetics.read_video(root, path, options.min_frames)
    frames = read_frames(video.data, range(video.frames), options.flow_size)
    sound = read_sound(video.data, options.sound_rate)
    heard = None
    if sound is not None:
        heard = log_mel(sound, options.sound_rate, options.mel_bands, options.window, options.hop)
    return Sounding(video, optical_flow(frames, options.flow), heard)


def notes(seen: Sounding) -> list[str]:
    """What is odd about a video that is kept."""
    found = [] if seen.sound is not None else ["no stream of sound: it trains without"]
    return found + (["it stands still: its flow is zero"] if np.abs(seen.flow).max() < STILL else [])


def _statistics(files: Path, options: Options) -> dict[str, dict[str, float]]:
    """How flow and sound are brought to unit scale, told from the first training videos."""
    flow, sound = Packed(files, "train-flow"), Packed(files, "train-sound")
    frames = np.load(files / "train.videos.npz", allow_pickle=False)["frames"]
    squares, heard = [], []
    for place in range(min(SAMPLED, len(flow))):
        height, width = map(int, flow.sizes[place])
        steps = unpack(flow.read(place), (int(frames[place]) - 1, 2, height, width), np.int8)
        squares.append(float((steps.astype(np.float64) ** 2).mean()))
        if sound.sizes[place, 0]:
            heard.append(unpack(sound.read(place), tuple(map(int, sound.sizes[place])), np.float16).astype(np.float64))
    scale = options.flow_bound / LEVELS
    mean = float(np.mean([part.mean() for part in heard])) if heard else 0.0
    spread = float(np.sqrt(np.mean([((part - mean) ** 2).mean() for part in heard]))) if heard else 1.0
    return {
        "flow": {"step": scale, "deviation": max(scale * float(np.sqrt(np.mean(squares))), scale)},
        "sound": {"hop": options.hop / options.sound_rate, "bands": options.mel_bands, "mean": round(mean, 6),
                  "deviation": max(round(spread, 6), 1e-3)},
    }  # fmt: skip
