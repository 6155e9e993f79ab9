"""Scenes are repeatable, their masks true, and training and validation share no pixel of a photograph."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from pipeline.config import ConfigError
from pipeline.data.bundled import bundled
from pipeline.data.scenes import PHOTOS, Options, box_of, compose, load_photos

OPTIONS = Options(
    train_images=12, val_images=4, image_size=64, digits=(0, 3, 8), photos=("brick", "coffee", "grass"), num_grounds=2,
    num_digits=(2, 3), digit_size=(16, 24), rotation=10.0, shear=0.1, contrast=0.4, colour=1.0, crowd_share=0.5,
    val_share=0.3, seed=0,
)  # fmt: skip


def test_the_same_options_give_the_same_scenes():
    one, two = (list(compose(OPTIONS, "train")) for _ in range(2))
    other = list(compose(dataclasses.replace(OPTIONS, seed=1), "train"))
    assert len(one) == 12 and all((a.image == b.image).all() for a, b in zip(one, two, strict=True))
    assert not any((a.image == b.image).all() for a, b in zip(one, other, strict=True))


def test_photographs_are_cut_in_two():
    parts = zip(load_photos(OPTIONS, "train"), load_photos(OPTIONS, "val"), OPTIONS.photos, strict=True)
    for train, val, name in parts:
        axis = int(train.shape[1] != val.shape[1])
        with Image.open(bundled("skimage", PHOTOS[name])) as image:
            whole = np.asarray(image.convert("RGB"))
        assert (np.concatenate([train, val], axis=axis) == whole).all()


def test_all_photographs_can_be_had():
    photos = load_photos(dataclasses.replace(OPTIONS, photos=tuple(PHOTOS)), "val")
    assert all(photo.dtype == np.uint8 and photo.shape[2] == 3 for photo in photos)


def test_masks_are_apart_and_where_the_ink_is():
    grounds = set()
    for scene in compose(OPTIONS, "train"):
        masks = np.stack([thing.mask for thing in scene.things])
        assert masks.sum(0).max() == 1 and masks.any((1, 2)).all()
        assert scene.edges[masks.any(0)].all()
        assert {thing.digit for thing in scene.things} <= {0, 3, 8}
        assert sum(not thing.crowd for thing in scene.things) <= 3
        assert 1 <= len(np.unique(scene.grounds)) <= 2
        grounds |= set(np.unique(scene.grounds))
        for thing in scene.things:
            if not thing.crowd:  # ink has one colour: far less varied than the photograph around it
                solid = scene.image[thing.mask].astype(float).std(0).mean()
                assert solid < 45
    assert grounds == {0, 1, 2}


def test_pixels_without_ink_are_those_of_the_photographs():
    photos = load_photos(OPTIONS, "train")
    scene = next(iter(compose(OPTIONS, "train")))
    row = np.flatnonzero(~scene.edges[:, :12].any(1))[0]
    photo, piece = photos[scene.grounds[row, 0]], scene.image[row, :12]
    same = scene.grounds[row, :12] == scene.grounds[row, 0]
    windows = np.lib.stride_tricks.sliding_window_view(photo, int(same.sum()), axis=1).transpose(0, 1, 3, 2)
    assert (windows == piece[same]).all((2, 3)).any()


def test_cards_are_the_objects_and_look_like_the_images_of_digits():
    options = dataclasses.replace(OPTIONS, card_colour=0.05, contrast=0.35, crowd_share=0.0)
    scenes = list(compose(options, "train"))
    whole = 0
    for scene in scenes:
        assert (scene.edges == np.any([thing.mask for thing in scene.things], axis=0)).all()
        for thing in scene.things:
            if thing.mask.sum() in {side**2 for side in range(16, 25)}:  # no other card lies on it
                card, whole = scene.image[thing.mask].mean(axis=1), whole + 1
                assert np.quantile(card, 0.25) < 20 and card.max() > 150  # white ink on black, whatever is below
    assert whole > 12
    assert max(np.median(scene.image[~scene.edges]) for scene in scenes) > 60


def test_boxes_are_tight():
    mask = np.zeros((9, 12), bool)
    mask[2:5, 7] = mask[4, 3:8] = True
    assert box_of(mask) == [3, 2, 5, 3]


def test_crowds_come_as_often_as_asked():
    many = dataclasses.replace(OPTIONS, train_images=60)
    assert 18 < sum(any(thing.crowd for thing in scene.things) for scene in compose(many, "train")) < 42
    none = dataclasses.replace(OPTIONS, crowd_share=0.0)
    assert not any(thing.crowd for scene in compose(none, "train") for thing in scene.things)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"photos": ("brick", "moon")}, "photos names 'moon'; available: astronaut, brick"),
        ({"num_grounds": 4}, "num_grounds is 4; expected at most that of photos, 3"),
        (
            {"digit_size": (16, 60)},
            r"digit_size is \[16, 60\]; expected sides from 8 to two thirds of image_size, 42",
        ),
        (
            {"image_size": 200},
            "the val part of photograph 'brick' has .* pixels; expected at least image_size, 200",
        ),
        ({"digits": (1, 1)}, r"digits is \[1, 1\]; expected some of 0 to 9, each once"),
    ],
)
def test_mistakes_are_named(changes, message):
    with pytest.raises(ConfigError, match=message):
        list(compose(dataclasses.replace(OPTIONS, **changes), "val"))


def test_a_small_share_of_colour_is_nearly_white_ink_on_black():
    dim = list(compose(dataclasses.replace(OPTIONS, colour=0.1), "train"))
    assert all(np.median(scene.image[~scene.edges]) <= 26 for scene in dim)
    assert all(scene.image[thing.mask].mean() > 120 for scene in dim for thing in scene.things if not thing.crowd)
