"""The embedded clips are heard as they move, from the file that is read back, and are the same for the same seed."""

import numpy as np
import pytest

from pipeline.config import ConfigError
from pipeline.data.sound import log_mel, read_sound
from pipeline.data.sources.audiovisual import moving_sounds
from pipeline.data.sources.audiovisual.moving_sounds import NAMES, RATE, class_sizes

OPTIONS = {"train_clips": 16, "val_clips": 8, "zipf_exponent": 1.0, "directions": 4, "image_size": 16, "num_frames": 8,
           "val_share": 0.28, "scale": (0.6, 0.9), "path": (0.6, 0.7), "contrast": 0.4, "colour": 1.0, "noise": 0.0,
           "silent_share": 0.0, "flow_size": 32, "mel_bands": 16, "seed": 0}  # fmt: skip


def build(**changes):
    return moving_sounds.Options(**OPTIONS | changes)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("moving-sounds")
    moving_sounds.write(build(), root)
    return root


def test_the_soundtrack_tells_the_motion(root):
    """Read back from the MP4: the pitch rises as the digit does, and what goes right grows louder."""
    found = {}
    for path in sorted(root.glob("*/*/*.mp4")):
        sound = read_sound(path.read_bytes(), RATE)[: round(RATE * 8 / 30)]
        spectra = [np.abs(np.fft.rfft(part * np.hanning(len(part)))) for part in np.array_split(sound, 4)]
        pitch = [spectrum.argmax() / len(spectrum) for spectrum in spectra]
        loud = [part.std() for part in np.array_split(sound, 4)]
        change = np.log2(pitch[-1] / pitch[0]), np.log2(loud[-1] / loud[0])
        found.setdefault(path.parent.name, []).append(change)
    middle = {name: np.median(changes, axis=0) for name, changes in found.items()}
    assert set(middle) == set(NAMES[:4])
    assert middle["north"][0] > 0.3 and middle["south"][0] < -0.3
    assert max(abs(middle[name][0]) for name in ("east", "west")) < 0.15
    assert middle["east"][1] > 0.5 and middle["west"][1] < -0.5


def test_classes_follow_zipf_in_training_alone(root):
    count = {split: [len(list((root / split / name).iterdir())) for name in NAMES[:4]] for split in ("train", "val")}
    assert count == {"train": [8, 4, 2, 2], "val": [2, 2, 2, 2]}
    assert class_sizes(1000, 8, 1.0).sum() == 1000 and class_sizes(8, 8, 0.0).tolist() == [1] * 8
    with pytest.raises(ConfigError, match="4 clips are too few for 8 classes"):
        class_sizes(4, 8, 1.0)


def test_the_same_seed_gives_the_same_files(root, tmp_path):
    moving_sounds.write(build(), tmp_path / "again")
    paths = sorted(path.relative_to(root) for path in root.rglob("*.*"))
    assert len(paths) == 26 and all(
        (root / path).read_bytes() == (tmp_path / "again" / path).read_bytes() for path in paths
    )
    moving_sounds.write(build(seed=1), tmp_path / "other")
    one, two = ({path.read_bytes() for path in top.rglob("*.mp4")} for top in (root, tmp_path / "other"))
    assert len(one) == len(two) == 24 and not one & two


def test_some_clips_are_silent(tmp_path):
    (tmp_path / "files").mkdir()
    told = moving_sounds.prepare(build(silent_share=0.5), tmp_path / "work", tmp_path / "files")
    assert 0 < told["splits"]["train"]["silent"] < told["splits"]["train"]["count"] == 16
    assert told["rejects"]["count"] == 0 and told["classes"] == sorted(NAMES[:4])


def test_options_that_cannot_be():
    for changes, expected in (({"directions": 9}, "directions is 9; expected 2 to 8"),
                              ({"image_size": 15}, "image_size is 15; expected an even number"),
                              ({"contrast": 0.9}, "contrast is 0.9; expected 0 to 0.8")):  # fmt: skip
        with pytest.raises(ConfigError, match=expected):
            build(**changes)


def test_a_spectrogram_of_a_clip_is_long_enough(root):
    path = next(root.glob("train/*/*.mp4"))
    assert log_mel(read_sound(path.read_bytes(), RATE), RATE, 16, 512, 128).shape[1] >= 32
