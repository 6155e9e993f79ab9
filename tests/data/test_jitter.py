"""Colour operations against torchvision's on Pillow's images, and whole augmentations against a loop over images."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torchvision.transforms import functional as theirs

from pipeline.data import jitter
from pipeline.data.bundled import bundled
from pipeline.data.draws import COLOUR, uniform
from pipeline.data.jitter import JitteredCrop
from pipeline.data.transforms import RandomCrop
from tests.data.test_transforms import RATIO, as_batch, photo, reading

MOCO = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1,
        "jitter_share": 0.8, "grey_share": 0.2, "blur_share": 0.5}  # fmt: skip
AMOUNTS = (-0.4, -0.13, 0.0, 0.07, 0.4)
CHANGES = (theirs.adjust_brightness, theirs.adjust_contrast, theirs.adjust_saturation)


def photograph(size=128):
    with Image.open(bundled("skimage", "data/astronaut.png")) as image:
        return np.asarray(image.convert("RGB").resize((size, size)))


def augmentation(**changes):
    return JitteredCrop(16, (0.3, 1.0), RATIO, flip=True, **{**MOCO, **changes})


def apart(ours, others):
    return np.abs(ours.astype(int) - np.asarray(others).astype(int))


@pytest.mark.parametrize("kind", range(3))
def test_brightness_contrast_and_saturation_are_torchvisions_to_the_bit(kind):
    for pixels in (photograph(), photo(16, 24)):
        for amount in AMOUNTS:
            expected = CHANGES[kind](Image.fromarray(pixels), 1 + amount)
            assert not apart(jitter.CHANGES[kind](pixels, amount), expected).any(), amount


def test_hues_are_torchvisions_but_for_steps_of_the_circle():
    """Bounds as in docs/explanation/input.md: Pillow's circle has 255 steps, OpenCV's 256."""
    pixels = photograph()
    for amount in (-0.1, -0.033, 0.05, 0.1):
        turned = jitter.turn(pixels, amount)
        difference = apart(turned, theirs.adjust_hue(Image.fromarray(pixels), amount))
        assert difference.mean() < 0.7 and difference.max() <= 8
        assert apart(turned, pixels).mean() > 1
    greys = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    assert not apart(jitter.turn(greys, 0.1), greys).any()


def test_pure_colours_turn_around_the_circle():
    red = np.full((4, 4, 3), (255, 0, 0), np.uint8)
    for amount, expected in ((1 / 3, (0, 255, 0)), (-1 / 3, (0, 0, 255)), (0.5, (0, 255, 255))):
        assert apart(jitter.turn(red, amount), np.broadcast_to(np.array(expected), red.shape)).max() <= 6


def test_blur_is_a_gaussian_like_pillows():
    pixels = photograph()
    for deviation in (0.1, 0.5, 1.0, 2.0):
        blurred = jitter.blur(pixels, deviation)
        pillows = apart(blurred, Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(deviation)))
        # Means of boxes are no Gaussian: they fade sooner.
        assert pillows.mean() < 1 and np.percentile(pillows, 99) <= 6, deviation
        position = np.arange(128)
        weights = np.exp(-((position[:, None] - position) ** 2) / (2 * deviation**2))
        weights /= weights.sum(axis=1, keepdims=True)
        exact = (weights @ pixels.transpose(2, 0, 1).astype(float) @ weights.T).transpose(1, 2, 0)
        inner = (slice(10, -10), slice(10, -10))
        assert np.abs(blurred[inner] - exact[inner]).max() < 1.6, deviation
    flat = np.full((8, 8, 3), 178, np.uint8)
    assert not apart(jitter.blur(flat, 2.0), flat).any()


def coloured_by_loop(pixels, draws, strengths, shares):
    """What MoCo v2 does to one image, by torchvision's functions on Pillow's images."""
    image = Image.fromarray(pixels)
    if draws[8] < shares[0]:
        for _, kind in sorted((draws[4 + kind].item(), kind) for kind in range(3)):
            image = CHANGES[kind](image, 1 + (2 * draws[kind].item() - 1) * strengths[kind])
    if draws[9] < shares[1]:
        image = theirs.to_grayscale(image, 3)
    return np.asarray(image)


def test_each_image_has_its_own_order_and_its_own_share():
    count = 60
    images = as_batch(*[photo(16, 16, seed) for seed in range(6)]).repeat(10, 1, 1, 1)
    epochs, indices = torch.full((count,), 2), torch.arange(count)
    ours = augmentation(blur_share=0.0, hue=0.0).coloured(images, 5, epochs, indices)
    assert ours.dtype == torch.uint8
    draws = uniform(5, epochs, indices, 12, COLOUR)
    for image, row, result in zip(images.permute(0, 2, 3, 1), draws, ours.permute(0, 2, 3, 1), strict=True):
        assert not apart(result.numpy(), coloured_by_loop(image.numpy(), row, (0.4, 0.4, 0.4), (0.8, 0.2))).any()
    assert len({tuple(row.argsort().tolist()) for row in draws[:, 4:8]}) > 15  # of 24 orders
    assert ((ours[:, :1] == ours).all(dim=(1, 2, 3))).tolist() == (draws[:, 9] < 0.2).tolist()


def test_hue_has_its_place_in_the_order():
    images, indices = as_batch(photo(16, 16)).repeat(40, 1, 1, 1), torch.arange(40)
    only = {"grey_share": 0.0, "blur_share": 0.0, "jitter_share": 1.0, "brightness": 0.0, "contrast": 0.0}
    ours = augmentation(**only).coloured(images, 3, 0 * indices, indices).permute(0, 2, 3, 1).numpy()
    draws = uniform(3, 0 * indices, indices, 12, COLOUR).double().numpy()
    for row, result in zip(draws, ours, strict=True):
        pixels = images[0].permute(1, 2, 0).numpy()
        steps = [lambda pixels, by=0.4 * (2 * row[2] - 1): jitter.CHANGES[2](pixels, by),
                 lambda pixels, by=0.1 * (2 * row[3] - 1): jitter.turn(pixels, by)]  # fmt: skip
        for step in steps if row[6] < row[7] else reversed(steps):
            pixels = step(np.ascontiguousarray(pixels))
        assert not apart(result, pixels).any()


def test_blurred_are_those_that_are_drawn():
    images, indices = as_batch(*[photo(16, 16, seed) for seed in range(6)]).repeat(10, 1, 1, 1), torch.arange(60)
    only = augmentation(jitter_share=0.0, grey_share=0.0).coloured(images, 1, 0 * indices, indices)
    draws = uniform(1, 0 * indices, indices, 12, COLOUR).double()
    for image, row, result in zip(images, draws, only, strict=True):
        pixels = image.permute(1, 2, 0).contiguous().numpy()
        expected = jitter.blur(pixels, 0.1 + 1.9 * row[11].item()) if row[10] < 0.5 else pixels
        assert np.array_equal(result.permute(1, 2, 0).numpy(), expected)


def test_with_nothing_to_do_it_is_the_plain_crop():
    arrays, indices = as_batch(*[photo(20, 20, seed) for seed in range(8)]), torch.arange(8)
    nothing = augmentation(jitter_share=0.0, grey_share=0.0, blur_share=0.0)
    plain = RandomCrop(16, (0.3, 1.0), RATIO, flip=True)
    assert torch.equal(nothing.batch(arrays, 0, 0 * indices, indices), plain.batch(arrays, 0, 0 * indices, indices))


def test_what_was_given_is_left_as_it_is():
    images, indices = as_batch(*[photo(16, 16, seed) for seed in range(6)]), torch.arange(6)
    for given in (images, images.contiguous(memory_format=torch.channels_last)):
        before = given.clone()
        augmentation(jitter_share=1.0).coloured(given, 0, 0 * indices, indices)
        assert torch.equal(given, before)


def test_in_memory_and_in_files_agree():
    arrays = [photo(32, 32, seed) for seed in range(12)]
    epochs, indices = torch.full((12,), 4), torch.arange(12)
    batch = augmentation(hue=0.0).batch(as_batch(*arrays), 1, epochs, indices)
    sizes = torch.tensor([[32, 32]]).expand(12, 2)
    single = augmentation(hue=0.0).read(reading(arrays), sizes, 1, epochs, indices)
    difference = apart(batch.numpy(), single.numpy())
    assert difference.max() <= 4 and difference.mean() < 0.1  # the crops differ by rounding, which contrast enlarges


def test_colours_depend_on_seed_epoch_and_index_alone():
    arrays, indices = as_batch(*[photo(16, 16)] * 20), torch.arange(20)
    crop = augmentation()
    first = crop.batch(arrays, 0, 0 * indices, indices)
    torch.manual_seed(99)
    assert torch.equal(crop.batch(arrays, 0, 0 * indices, indices.flip(0)).flip(0), first)
    assert len({tuple(row.flatten().tolist()) for row in first}) == 20
    assert not torch.equal(crop.batch(arrays, 1, 0 * indices, indices), first)
