"""The scans are scikit-learn's, shared out without overlap and drawn where they should be."""

import numpy as np
import pytest

from pipeline.config import ConfigError
from pipeline.data import scans
from pipeline.data.scans import Jitter, draw_ink, split_scans, two_colours

STILL = Jitter(scale=(1.0, 1.0), shift=0.0, rotation=0.0, shear=0.0)


def test_are_those_of_scikit_learn():
    """Against what scikit-learn documents of its set; importing it to compare would take five seconds."""
    images, classes = scans.load_digits()
    assert images.shape == (1797, 8, 8) and (images.min(), images.max()) == (0, 16)
    assert np.bincount(classes).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert classes[:10].tolist() == list(range(10))
    assert images[0, 1].tolist() == [0, 0, 13, 15, 10, 15, 5, 0]


def test_no_scan_is_in_both_splits_and_each_class_is_shared_alike():
    parts = split_scans(0, 0.3)
    both = np.concatenate([parts["train"].positions, parts["val"].positions])
    assert sorted(both.tolist()) == list(range(1797))
    for digit in range(10):
        kept, all_of_it = ((part == digit).sum() for part in (parts["val"].classes, scans.load_digits()[1]))
        assert kept == round(0.3 * all_of_it)
    assert (split_scans(0, 0.3)["val"].positions == parts["val"].positions).all()
    assert set(split_scans(1, 0.3)["val"].positions) != set(parts["val"].positions)
    assert set(split_scans(0, 0.3, digits=(3, 5))["train"].classes) == {3, 5}


def test_scans_that_are_held_out_are_those_that_another_set_validates_on():
    tuned, shown = split_scans(0, 0.3, held_share=0.2), split_scans(0, 0.2)
    assert not {*tuned["train"].positions, *tuned["val"].positions} & {*shown["val"].positions}
    assert sum(len(part.positions) for part in tuned.values()) == len(shown["train"].positions)
    with pytest.raises(ConfigError, match=r"val_share is 0.3 and held_share 0.7; expected a share that leaves scans"):
        split_scans(0, 0.3, held_share=0.7)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_split_without_scans_is_refused(share):
    with pytest.raises(ConfigError, match=rf"val_share is {share}; expected a share that leaves scans on both sides"):
        split_scans(0, share)


def test_picks_scans_of_the_classes_asked_for():
    part = split_scans(0, 0.3)["val"]
    wanted = np.arange(500) % 10
    picked = part.pick(wanted, np.random.default_rng(0))
    assert (part.classes[picked] == wanted).all()
    assert len(set(picked)) > 200


def test_an_unmoved_scan_is_itself():
    part = split_scans(0, 0.3)["val"]
    drawn = draw_ink(part.ink[:5], 8, STILL, np.random.default_rng(0))
    assert np.allclose(drawn, part.ink[:5], atol=1e-6)


def test_scale_and_shift_move_the_ink():
    blob = np.zeros((1, 8, 8), np.float32)
    blob[:, 3:5, 3:5] = 1
    y, x = np.mgrid[:32, :32]

    def area_and_centre(**changes):
        jitter = Jitter(**vars(STILL) | changes)
        ink = draw_ink(blob, 32, jitter, np.random.default_rng(3))[0]
        return ink.sum(), (ink * y).sum() / ink.sum(), (ink * x).sum() / ink.sum()

    area, down, right = area_and_centre()
    assert (down, right) == pytest.approx((15.5, 15.5), abs=0.01)
    half, *_ = area_and_centre(scale=(0.5, 0.5))
    assert half == pytest.approx(area / 4, rel=0.1)
    _, moved_down, moved_right = area_and_centre(shift=0.2)
    assert 0.5 < abs(moved_down - 15.5) <= 6.4 and 0.5 < abs(moved_right - 15.5) <= 6.4


def test_colours_keep_their_distance():
    ground, ink = two_colours(500, 0.4, np.random.default_rng(0))
    assert np.abs(scans.brightness(ground) - scans.brightness(ink)).min() >= 0.4
