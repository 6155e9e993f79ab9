"""Videos with flow and sound in the layouts of real sets: what is kept, what is noted and what is rejected by name."""

import json

import numpy as np
import pytest

from pipeline.config import ConfigError
from pipeline.data.packed import Packed
from pipeline.data.sources.audiovisual import sounding_videos
from pipeline.data.video import write_video

RATE = 16_000
HEAD = "label,youtube_id,time_start,time_end,split\n"


def options(root, **changes):
    usual = {"root": root and str(root), "layout": "kinetics", "fold": 1, "min_frames": 8, "expect": None,
             "max_reject_share": 0.9, "num_workers": 1, "shard_mib": 1, "flow": "farneback", "flow_size": 32,
             "flow_bound": 8.0, "sound_rate": RATE, "mel_bands": 16, "sound_window": 0.032,
             "sound_hop": 0.008}  # fmt: skip
    return sounding_videos.Options(**usual | changes)


def moving(count=8):
    """A soft disk that goes right by one pixel a frame."""
    time, down, right = np.mgrid[:count, :32, :32]
    level = 60 + 180 * np.exp(-((right - 12 - time) ** 2 + (down - 16) ** 2) / 32)
    return np.repeat(level[..., None], 3, axis=3).astype(np.uint8)


def noise(channels, samples=4000):
    return np.random.default_rng(0).uniform(-0.5, 0.5, (channels, samples)).astype(np.float32)


def prepare(tmp_path, **changes):
    (tmp_path / "files").mkdir()
    return sounding_videos.prepare(options(tmp_path / "raw", **changes), tmp_path / "work", tmp_path / "files")


def test_what_is_kept_noted_and_rejected(tmp_path):
    root = tmp_path / "raw"
    for split in ("train", "val"):
        (root / split).mkdir(parents=True)
    clips = {"a": (moving(), noise(1)), "b": (moving(), noise(2)), "c": (moving(), noise(6)), "d": (moving(), None),
             "e": (np.full((8, 32, 32, 3), 90, np.uint8), noise(1)), "f": (moving(4), noise(1))}  # fmt: skip
    for name, (frames, sound) in clips.items():
        write_video(root / f"train/{name}_000001_000011.mp4", frames, 30, sound, RATE)
    (root / "train/g_000001_000011.mp4").write_bytes(b"<html>not found</html>")
    whole = (root / "train/a_000001_000011.mp4").read_bytes()
    (root / "train/h_000001_000011.mp4").write_bytes(whole[: len(whole) // 2])
    write_video(root / "train/i_000001_000011.mp4", moving(), 30, noise(1, 300), RATE)
    write_video(root / "val/a_000001_000011.mp4", moving(), 30, noise(1), RATE)
    (root / "train.csv").write_text(HEAD + "".join(f"jumping,{name},1,11,train\n" for name in "abcdefghij"))
    (root / "val.csv").write_text(HEAD + "jumping,a,1,11,val\n")
    told = prepare(tmp_path, sound_window=0.128)
    assert told["splits"] == {"train": {"count": 5, "silent": 1}, "val": {"count": 1, "silent": 0}}
    assert told["classes"] == ["jumping"]
    reasons = {reject["file"][6]: reject["reason"] for reject in told["rejects"]["first"]}
    assert set(reasons) == set("fghij")
    assert reasons["f"] == "4 frames, fewer than min_frames, 8" and "no video file" in reasons["g"]
    assert "fewer than a window of 2048" in reasons["i"] and "no such file" in reasons["j"]
    notes = {note["file"][6]: note["note"] for note in told["notes"]["first"]}
    assert notes == {"d": "no stream of sound: it trains without", "e": "it stands still: its flow is zero"}
    flow, sound = (Packed(tmp_path / "files", f"train-{name}") for name in ("flow", "sound"))
    assert flow.keys == sound.keys and flow.sizes.tolist() == [[32, 32]] * 5
    assert sound.sizes[:, 0].tolist() == [16, 16, 16, 0, 16]
    scales = json.loads((tmp_path / "files/modalities.json").read_text())
    assert scales["flow"]["deviation"] > scales["flow"]["step"] == 8 / 127 and scales["sound"]["deviation"] > 0


def test_an_interrupted_preparation_goes_on_to_the_same_bytes(tmp_path):
    root, cut = tmp_path / "raw", tmp_path / "cut"
    for split in ("train", "val"):
        (root / split).mkdir(parents=True)
        for name in "abc":
            write_video(root / split / f"{name}_000001_000011.mp4", moving(), 30, noise(1), RATE)
        (root / f"{split}.csv").write_text(HEAD + "".join(f"jumping,{name},1,11,{split}\n" for name in "abc"))
    prepare(tmp_path)
    (cut / "files").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sounding_videos, "_statistics", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            sounding_videos.prepare(options(root), cut / "work", cut / "files")
    sounding_videos.prepare(options(root), cut / "work", cut / "files")
    for path in sorted((tmp_path / "files").iterdir()):
        assert path.read_bytes() == (cut / "files" / path.name).read_bytes(), path.name


def test_the_layout_of_hmdb51(tmp_path):
    root = tmp_path / "raw"
    (root / "splits").mkdir(parents=True)
    (root / "wave").mkdir()
    (root / "splits/wave_test_split1.txt").write_text("one.avi 1 \ntwo.avi 2 \nthree.avi 0 \n")
    for name in ("one", "two"):
        write_video(root / f"wave/{name}.avi", moving(), 30, None, RATE)
    told = prepare(tmp_path, layout="hmdb51")
    assert told["splits"] == {"train": {"count": 1, "silent": 1}, "val": {"count": 1, "silent": 1}}
    assert json.loads((tmp_path / "files/modalities.json").read_text())["sound"]["deviation"] == 1.0


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"layout": "k400"}, r"layout is 'k400'; available: \['hmdb51', 'kinetics'"), ({"root": None}, "root"),
     ({"min_frames": 1}, "min_frames is 1; expected 2 or more"),
     ({"sound_hop": 0.5}, "sound_hop is 0.5 s; expected at most sound_window, 0.032 s"),
     ({"mel_bands": 400}, "mel_bands is 400; expected at most half of the 512 samples")],
)  # fmt: skip
def test_options_that_cannot_be(tmp_path, changes, told):
    with pytest.raises(ConfigError, match=told):
        sounding_videos.prepare(options(**{"root": tmp_path} | changes), tmp_path, tmp_path)
