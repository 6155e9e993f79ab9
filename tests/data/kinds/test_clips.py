"""The embedded set read back by the reader of Kinetics, and clips of it."""

import json

import numpy as np
import pytest
import torch

from pipeline.config import ConfigError
from pipeline.data.kinds import video
from pipeline.data.sources.video import kinetics, moving_digits
from pipeline.data.transforms import MEAN, STD
from pipeline.data.video import write_video
from tests.methods import recipe

OPTIONS = {"train_clips": 24, "val_clips": 8, "directions": 8, "image_size": 16, "num_frames": 8, "val_share": 0.25,
           "scale": (0.6, 0.9), "path": (0.4, 0.7), "contrast": 0.4, "colour": 0.5, "noise": 0, "seed": 0}  # fmt: skip
EVAL = {"image_size": 16, "resize": 16, "num_frames": 8, "sampling_rate": 1, "target_fps": 30,
        "temporal_views": 1, "spatial_crops": 1}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("moving")
    (folder / "files").mkdir()
    told = moving_digits.prepare(moving_digits.Options(**OPTIONS), folder / "work", folder / "files")
    assert told["splits"] == {"train": {"count": 24}, "val": {"count": 8}} and told["rejects"]["count"] == 0
    assert told["classes"] == sorted(moving_digits.NAMES)
    return folder


def test_digits_move_where_their_class_says(folder):
    clips = video.open_eval(folder, "train", EVAL)
    for label, step in (("east", (0, 1)), ("south", (1, 0)), ("north-west", (-1, -1))):
        item = next(i for i in range(len(clips)) if clips.classes[clips.labels[i]] == label)
        frames = clips[(0, item)]["video"][0].mean(0)  # (T, S, S)
        first, last = (np.fft.fft2(frame.numpy() - frame.mean().item()) for frame in (frames[0], frames[4]))
        moved = np.fft.ifft2(last * first.conj()).real
        away = [((place + 8) % 16) - 8 for place in np.unravel_index(moved.argmax(), moved.shape)]
        assert [np.sign(a) if abs(a) > 1 else 0 for a in away] == list(step), label


def test_repeated_clips_are_draws_of_their_own(folder):
    settings = recipe("mae_st")
    settings = {**settings, "augment": {**settings["augment"], "scale": [0.5, 1.0]}}
    clips = video.open_train(folder, settings, seed=0)
    assert (clips.unit, clips.repeats) == ("clips", 2)
    batch = clips.__getitems__([(3, 5), (3, 7)])
    assert batch["video"].shape == (4, 3, 8, 16, 16) and batch["video"].dtype == torch.float32
    assert batch["epoch"].tolist() == [6, 7, 6, 7] and batch["index"].tolist() == [5, 5, 7, 7]
    assert not torch.equal(batch["video"][0], batch["video"][1])
    assert torch.equal(clips.__getitems__([(3, 7)])["video"], batch["video"][2:])
    assert video.example(settings, 4)["video"].shape == batch["video"].shape


def test_the_clips_of_a_video_come_of_one_decoding(folder, monkeypatch):
    clips = video.open_train(folder, recipe("mae_st"), seed=0)
    held = clips.__getitems__([(0, 5), (1, 7)])["video"]
    monkeypatch.setattr(clips.videos, "pixels", None)
    asked, decode = [], clips.videos._decode
    monkeypatch.setattr(clips.videos, "_decode", lambda index, frames: asked.append(index) or decode(index, frames))
    assert torch.equal(clips.__getitems__([(0, 5), (1, 7)])["video"], held)
    assert asked == [5, 7] and clips.repeats == 2
    views = video.open_eval(folder, "val", {**EVAL, "temporal_views": 3})
    held = views[(0, 2)]["video"]
    monkeypatch.setattr(views.videos, "pixels", None)
    monkeypatch.setattr(views.videos, "_decode", lambda index, frames: asked.append(index) or decode(index, frames))
    decode = type(views.videos)._decode.__get__(views.videos)
    assert torch.equal(views[(0, 2)]["video"], held) and asked == [5, 7, 2]


def test_pixels_are_those_of_the_file_normalised(folder):
    clips = video.open_eval(folder, "val", EVAL)
    shown = clips[(0, 2)]["video"][0]
    raw = clips.videos.read(2, range(8)).transpose(0, 1).float() / 255
    expected = (raw - torch.tensor(MEAN).view(3, 1, 1, 1)) / torch.tensor(STD).view(3, 1, 1, 1)
    assert torch.allclose(shown, expected, atol=1e-5)


def test_large_sets_are_decoded_as_asked(folder):
    whole, lazy = video.Videos(folder, "val", 16), video.Videos(folder, "val", 16, in_memory=0)
    assert whole.pixels is not None and lazy.pixels is None
    assert torch.equal(whole.read(3, [1, 5]), lazy.read(3, [1, 5]))


def test_views_are_spaced_over_time_and_side(tmp_path):
    frames = np.zeros((40, 16, 32, 3), np.uint8)
    frames[:] = 6 * np.arange(40, dtype=np.uint8)[:, None, None, None]
    frames[:, :, 16:] += 15
    (tmp_path / "files").mkdir()
    root = tmp_path / "raw"
    (root / "labels").mkdir(parents=True)
    (root / "videos").mkdir()
    write_video(root / "videos/7.mp4", frames, 30, crf="1")
    for name in ("train", "validation"):
        rows = [{"id": "7", "template": "Pushing [something] left"}]
        (root / f"labels/{name}.json").write_text(json.dumps(rows))
    told = kinetics.prepare(options(root, layout="ssv2"), tmp_path, tmp_path / "files")
    assert told["classes"] == ["Pushing something left"]
    clips = video.open_eval(tmp_path, "val", {**EVAL, "temporal_views": 2, "spatial_crops": 3})
    assert clips.repeats == 6
    batch = clips.__getitems__([(0, 0)])
    levels = batch["video"][:, 0, 0].mean((1, 2)) * STD[0] * 255 + MEAN[0] * 255
    assert levels.tolist() == pytest.approx([0, 7.5, 15, 192, 199.5, 207], abs=4)


def test_frames_of_a_clip():
    kinetics400 = {"num_frames": 16, "sampling_rate": 4, "target_fps": 30}
    assert video.clip_frames(300, 30.0, kinetics400, 0.0) == [int(63 * i / 15) for i in range(16)]
    assert video.clip_frames(300, 15.0, kinetics400, 1.0)[0::15] == [268, 299]  # half the frames take as long
    assert video.clip_frames(10, 30.0, kinetics400, 0.5)[-1] == 9
    segments = {"num_frames": 4, "sampling_rate": 0, "target_fps": 30}
    assert video.clip_frames(40, 12.0, segments, 0.5) == [5, 15, 25, 35]


def test_montage_shows_clips_as_strips_of_frames():
    """A strip for each row, frames from left; clips below each other, beside where their strips are short."""
    clips = torch.linspace(-1, 1, 3 * 4).view(3, 1, 4, 1, 1).expand(3, 3, 4, 16, 16)
    long = {"input": clips.repeat(1, 1, 2, 1, 1), "masked": torch.zeros(3, 3, 8, 16, 16)}
    assert video.montage(long).size == (8 * 72, 3 * 2 * 72 + 2 * 8)
    short = video.montage({"input": clips, "masked": -clips})
    assert short.size == (2 * 4 * 72 + 16, 2 * 2 * 72 + 8)
    pixels = np.asarray(short).astype(int)
    shown = [pixels[36, 36 + 72 * frame + 16 * (frame > 3), 0] for frame in range(8)]
    assert shown == sorted(set(shown)), "the second clip goes on where the first one ended"
    assert pixels[72 + 36, 36, 0] > pixels[72 + 36, 3 * 72 + 36, 0], "what is negated is below"
    assert (pixels[-36, 5 * 72 :] == 255).all(), "nothing beside the last one"


def options(root, **changes):
    usual = {"root": str(root), "layout": "kinetics", "fold": 1, "min_frames": 8, "expect": None,
             "max_reject_share": 0.5, "num_workers": 1, "shard_mib": 1}  # fmt: skip
    return kinetics.Options(**usual | changes)


def test_unusable_videos_are_rejected_by_name(tmp_path):
    root, frames = tmp_path / "raw", np.zeros((8, 16, 16, 3), np.uint8)
    (root / "train/jumping").mkdir(parents=True)
    (root / "val").mkdir()
    write_video(root / "train/jumping/a_000001_000011.mp4", frames, 30)
    write_video(root / "train/jumping/b_000001_000011.mp4", frames[:4], 30)
    (root / "train/jumping/c_000001_000011.mp4").write_bytes(b"<html>not found</html>")
    write_video(root / "val/a_000012_000022.mp4", frames, 30)
    head = "label,youtube_id,time_start,time_end,split\n"
    rows = [f"jumping,{name},1,11,train\n" for name in "abcd"]
    (root / "train.csv").write_text(head + "".join(rows))
    (root / "val.csv").write_text(head + "jumping,a,12,22,val\n")
    (tmp_path / "files").mkdir()
    told = kinetics.prepare(options(root, max_reject_share=0.7), tmp_path, tmp_path / "files")
    assert told["splits"] == {"train": {"count": 1}, "val": {"count": 1}}
    reasons = {reject["file"][14]: reject["reason"] for reject in told["rejects"]["first"]}
    assert reasons["b"] == "4 frames, fewer than min_frames, 8"
    assert "no video file" in reasons["c"] and "no such file" in reasons["d"]
    with pytest.raises(ConfigError, match=r"3 of 5 files .* max_reject_share 0\.5"):
        kinetics.prepare(options(root), tmp_path, tmp_path / "files")
    with pytest.raises(ConfigError, match=r"layout is 'k400'; available: \['hmdb51', 'kinetics'"):
        kinetics.prepare(options(root, layout="k400"), tmp_path, tmp_path / "files")


@pytest.mark.parametrize("layout", ["ucf101", "hmdb51"])
def test_lists_of_small_sets(tmp_path, layout):
    names = {"train": "v_Jump_g01.avi", "val": "v_Jump_g02.avi"}
    place = tmp_path / "raw" / ("UCF-101/Jump" if layout == "ucf101" else "Jump")
    place.mkdir(parents=True)
    for name in names.values():
        write_video(place / name, np.zeros((8, 16, 16, 3), np.uint8), 25)
    if layout == "ucf101":
        lists = tmp_path / "raw/ucfTrainTestlist"
        lists.mkdir()
        (lists / "trainlist02.txt").write_text(f"Jump/{names['train']} 1\n")
        (lists / "testlist02.txt").write_text(f"Jump/{names['val']}\n")
    else:
        lists = tmp_path / "raw/splits"
        lists.mkdir()
        (lists / "Jump_test_split2.txt").write_text(f"{names['train']} 1 \n{names['val']} 2 \nunused.avi 0 \n")
    (tmp_path / "files").mkdir()
    told = kinetics.prepare(options(tmp_path / "raw", layout=layout, fold=2), tmp_path, tmp_path / "files")
    assert told["classes"] == ["Jump"] and told["splits"] == {"train": {"count": 1}, "val": {"count": 1}}
    with pytest.raises(ConfigError, match="fold is 4"):
        kinetics.prepare(options(tmp_path / "raw", layout=layout, fold=4), tmp_path, tmp_path / "files")
