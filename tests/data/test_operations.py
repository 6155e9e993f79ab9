"""Operations on arrays against those of timm on Pillow's images, at every strength that policies draw."""

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import auto_augment, create_transform

from pipeline.data.bundled import bundled
from pipeline.data.operations import OPERATIONS, on_arrays, operations_of, posterize, warp
from pipeline.data.policies import AutoAugmented

HOW = {"fillcolor": (124, 116, 104), "resample": Image.Resampling.BICUBIC}
# What each may be given.
COLOURS = {
    "auto_contrast": [()],
    "equalize": [()],
    "invert": [()],
    "posterize": [(bits,) for bits in range(1, 9)],
    "solarize": [(threshold,) for threshold in range(0, 257, 8)],
    "solarize_add": [(add,) for add in range(0, 129, 8)],
    **{name: [(factor,) for factor in (0.1, 0.37, 1.0, 1.0003, 1.5, 1.9)]
       for name in ("brightness", "contrast", "color", "sharpness")},
    "desaturate": [(0.0,), (0.5,), (1.0,)],
}  # fmt: skip
PLACES = {
    "rotate": [(-30.0,), (-7.3,), (0.0,), (18.0,)],
    "shear_x": [(-0.3,), (0.0,), (0.21,)],
    "shear_y": [(-0.17,), (0.3,)],
    "translate_x_abs": [(-31.0,), (12.6,)],
    "translate_y_abs": [(9.5,)],
    "translate_x_rel": [(-0.45,), (0.33,)],
    "translate_y_rel": [(0.4,), (-0.27,)],
}


def photograph():
    with Image.open(bundled("skimage", "data/chelsea.png")) as image:
        return np.asarray(image.convert("RGB").resize((224, 224)))


def hard():
    """Pictures with all levels, few levels, one level, two levels, and hardly any pixels."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (61, 97, 3), np.uint8)
    return [noise, rng.integers(90, 93, (64, 64, 3), np.uint8), np.full((20, 30, 3), 7, np.uint8),
            (255 * rng.integers(0, 2, (40, 40, 3))).astype(np.uint8), noise[:5, :7].copy()]  # fmt: skip


def both(name, pixels, drawn):
    theirs = np.asarray(getattr(auto_augment, name)(Image.fromarray(pixels), *drawn, **HOW))
    return OPERATIONS[name](pixels, *drawn, **HOW), theirs


def test_every_operation_is_compared():
    assert OPERATIONS.keys() == COLOURS.keys() | PLACES.keys()
    used = {operation.__name__ for operation in auto_augment.NAME_TO_OP.values()}
    assert used - OPERATIONS.keys() == {"gaussian_blur", "gaussian_blur_rand"}, "left to Pillow"


@pytest.mark.parametrize("name", COLOURS)
def test_colours_are_pillows_to_the_bit(name):
    for pixels in [photograph(), *hard()]:
        before = pixels.copy()
        for drawn in COLOURS[name]:
            ours, theirs = both(name, pixels, drawn)
            assert ours.dtype == np.uint8 and np.array_equal(ours, theirs), (pixels.shape, drawn)
            assert np.array_equal(pixels, before)


@pytest.mark.parametrize("name", PLACES)
def test_places_are_pillows_but_for_interpolation(name):
    """The bounds are those of docs/explanation/input.md; where nothing moves, no level changes."""
    for drawn in PLACES[name]:
        ours, theirs = both(name, photograph(), drawn)
        apart = np.abs(ours.astype(int) - theirs.astype(int))
        assert apart.mean() < 0.9 and np.percentile(apart, 99) <= 5 and apart.max() <= 20, drawn
        if drawn == (0.0,):
            assert not apart.any()


@pytest.mark.parametrize("name", PLACES)
def test_outside_is_what_pillow_fills(name):
    """White on black: at most at rounded edges is a pixel inside in one and outside in the other."""
    white = np.full((80, 60, 3), 255, np.uint8)
    for drawn in PLACES[name]:
        ours = OPERATIONS[name](white, *drawn, fillcolor=(0, 0, 0))
        theirs = np.asarray(getattr(auto_augment, name)(Image.fromarray(white), *drawn, fillcolor=(0, 0, 0),
                                                        resample=Image.Resampling.BICUBIC))  # fmt: skip
        assert set(np.unique(ours)) <= {0, 255}
        assert (ours != theirs).any(axis=2).mean() < 0.002, drawn


def test_whole_steps_move_the_very_pixels():
    pixels = hard()[0]
    moved = warp(pixels, ((1, 0, 5), (0, 1, -3)), (1, 2, 3))
    assert np.array_equal(moved[3:, :-5], pixels[:-3, 5:])
    assert (moved[:3] == (1, 2, 3)).all() and (moved[:, -5:] == (1, 2, 3)).all()


def test_posterize_keeps_no_bit_where_the_policy_asks_for_none():
    """As Pillow had it when the papers' code was written: `value & ~(2 ** (8 - bits) - 1)`."""
    pixels = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    for bits in range(9):
        assert np.array_equal(posterize(pixels, bits), pixels & (~(2 ** (8 - bits) - 1) & 255)), bits


@pytest.mark.parametrize("name", ["rand-m9-mstd0.5-inc1", "augmix-m9-mstd0.5", "v0", "3a"])
def test_every_policy_of_timm_works_on_arrays(name):
    (policy,) = create_transform(16, is_training=True, auto_augment=name, color_jitter=None, separate=True)[
        1
    ].transforms
    change = on_arrays(policy)
    assert list(operations_of(policy)), "exchanged in place"
    pixels = hard()[0]
    changed = [change(pixels) for _ in range(40)]
    assert all(found.shape == pixels.shape and found.dtype == np.uint8 for found in changed)
    assert any(not np.array_equal(found, pixels) for found in changed)
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None].repeat(4, 1, 1, 1)
    whole = AutoAugmented(16, (0.5, 1.0), (0.75, 1.33), name, 0.0).batch(
        images, 0, torch.zeros(4, dtype=torch.int64), torch.arange(4)
    )
    assert whole.shape == (4, 3, 16, 16) and whole.dtype == torch.uint8
