"""Clips with flow and sound: what is seen, what moves and what is heard are of the same moment and the same box."""

import shutil

import numpy as np
import pytest
import torch

from pipeline.config import ConfigError
from pipeline.data.kinds import audiovisual
from pipeline.data.sources.audiovisual import moving_sounds
from pipeline.data.transforms import MEAN, STD
from tests.data.sources.audiovisual.test_moving_sounds import OPTIONS
from tests.methods import recipe

WHOLE = {"image_size": 16, "num_frames": 8, "sampling_rate": 1, "target_fps": 30, "decode_size": 16,
         "scale": [1.0, 1.0], "ratio": [1.0, 1.0], "flip": False}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounding")
    (folder / "files").mkdir()
    options = moving_sounds.Options(**OPTIONS | {"silent_share": 0.3})
    moving_sounds.prepare(options, folder / "work", folder / "files")
    return folder


def test_a_batch_holds_all_modalities(folder):
    clips = audiovisual.Clips(folder, WHOLE, 32, seed=0)
    batch = clips.__getitems__([(0, index) for index in range(16)])
    assert {name: tuple(value.shape) for name, value in batch.items()} == {
        "video": (16, 3, 8, 16, 16), "flow": (16, 2, 8, 16, 16), "sound": (16, 1, 16, 32), "heard": (16,),
        "labels": (16,), "epoch": (16,), "index": (16,)}  # fmt: skip
    assert batch["heard"].dtype == torch.bool and 0 < batch["heard"].sum() < 16
    assert (batch["sound"][~batch["heard"]] == 0).all() and batch["sound"][batch["heard"]].std() == pytest.approx(
        1, abs=0.2
    )
    pixels = clips.videos.read(3, range(8)).transpose(0, 1).float() / 255
    mean, std = (torch.tensor(values).view(3, 1, 1, 1) for values in (MEAN, STD))
    assert torch.allclose(batch["video"][3], (pixels - mean) / std, atol=1e-4)
    assert {name: value.shape[1:] for name, value in audiovisual.example(recipe("elo"), 2).items() if value.ndim > 1} \
        == {name: value.shape[1:] for name, value in batch.items() if value.ndim > 1}  # fmt: skip


def test_flow_points_where_the_class_says_and_turns_in_a_mirror(folder):
    clips = audiovisual.Clips(folder, WHOLE, 32, seed=0)
    batch = clips.__getitems__([(0, index) for index in range(16)])
    for name, channel, sign in (("east", 0, 1), ("west", 0, -1), ("south", 1, 1), ("north", 1, -1)):
        moved = batch["flow"][batch["labels"] == clips.classes.index(name)].mean(dim=(2, 3, 4))
        assert (sign * moved[:, channel] > 0).all() and moved[:, channel].abs().mean() > moved[
            :, 1 - channel
        ].abs().mean()
    mirrored = audiovisual.Clips(folder, {**WHOLE, "flip": True}, 32, seed=0).__getitems__([(0, i) for i in range(16)])
    turned = [not torch.equal(*pair) for pair in zip(mirrored["video"], batch["video"], strict=True)]
    assert 0 < sum(turned) < 16
    for place, other in enumerate(turned):
        expected = batch["flow"][place]
        if other:
            assert torch.allclose(mirrored["video"][place], batch["video"][place].flip(-1), atol=1e-4)
            expected = expected.flip(-1) * torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1)
        assert torch.allclose(mirrored["flow"][place], expected, atol=1e-4)


def test_flow_grows_with_the_box_that_is_enlarged(folder):
    half = {**WHOLE, "scale": [0.25, 0.25]}
    whole, part = (audiovisual.Clips(folder, settings, 32, 0).__getitems__([(0, i) for i in range(16)])
                   for settings in (WHOLE, half))  # fmt: skip
    assert part["flow"].abs().mean() == pytest.approx(2 * whole["flow"].abs().mean().item(), rel=0.3)


def test_samples_are_functions_of_seed_epoch_and_index(folder):
    settings = {**recipe("elo"), "augment": {**WHOLE, "scale": [0.5, 1.0], "num_frames": 4}}
    clips = audiovisual.open_train(folder, settings, seed=0)
    one, again, other = (clips.__getitems__([(epoch, 5), (epoch, 2)]) for epoch in (1, 1, 2))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["video"], other["video"])
    assert torch.equal(clips[(1, 2)]["flow"], one["flow"][1])


def test_half_a_clip_is_heard_for_half_as_long(folder):
    """The sound of the first four frames is the first half of that of all eight."""
    whole = audiovisual.Clips(folder, WHOLE, 32, 0)
    index = int(np.flatnonzero(whole.sound.sizes[:, 0])[0])
    all_of_it, first = (whole._sound(index, range(number), 30.0) for number in (8, 4))
    assert torch.nn.functional.interpolate(first, size=17, mode="linear").shape == (1, 16, 17)
    assert (first[..., ::2] - all_of_it[..., :16]).abs().mean() < 0.25 * all_of_it.std()


def test_the_first_of_each_class_is_shown(folder):
    batch = audiovisual.first_of_each(folder, recipe("elo"), 0, 3)
    assert batch["labels"].tolist() == [0, 1, 2]
    assert audiovisual.montage({"input": batch["video"]}).size[0] > 0


def test_damaged_packs_are_told(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    files = tmp_path / "copy/files"
    shard = next(
        path for path in sorted(files.iterdir()) if path.name.startswith("train-flow") and path.suffix == ".bin"
    )
    shard.write_bytes(bytes(len(shard.read_bytes())))
    with pytest.raises(ConfigError, match=r"damaged: it cannot be decompressed .*; prepare the data again"):
        audiovisual.Clips(tmp_path / "copy", WHOLE, 32, 0)[(0, 0)]
    for path in files.glob("train-flow*"):
        path.unlink()
    for path in files.glob("val-flow*"):
        shutil.copy(path, files / path.name.replace("val", "train"))
    with pytest.raises(ConfigError, match="does not fit the videos; prepare the data again"):
        audiovisual.Clips(tmp_path / "copy", WHOLE, 32, 0)
