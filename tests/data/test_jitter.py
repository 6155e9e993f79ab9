"""Colour operations against torchvision's on the same numbers, and whole augmentations against a loop over images."""

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as theirs

from pipeline.data import jitter
from pipeline.data.draws import COLOUR, uniform
from pipeline.data.jitter import JitteredCrop
from pipeline.data.transforms import RandomCrop, denormalise, normalised
from tests.data.test_transforms import RATIO, as_batch, photo, reading

MOCO = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1,
        "jitter_share": 0.8, "grey_share": 0.2, "blur_share": 0.5}  # fmt: skip
CHANGES = {  # ours, torchvision's, amounts as ours takes them, as torchvision's does
    "brightness": (jitter.brighten, theirs.adjust_brightness, lambda x: 0.8 * x, lambda x: 1 + 0.8 * x),
    "contrast": (jitter.contrast, theirs.adjust_contrast, lambda x: 0.8 * x, lambda x: 1 + 0.8 * x),
    "saturation": (jitter.saturate, theirs.adjust_saturation, lambda x: 0.8 * x, lambda x: 1 + 0.8 * x),
    "hue": (jitter.turn, theirs.adjust_hue, lambda x: 0.5 * x, lambda x: 0.5 * x),
}


def pictures(count=6, size=16):
    return torch.stack([torch.from_numpy(photo(size, size, seed)).permute(2, 0, 1) for seed in range(count)]) / 255


def augmentation(**changes):
    return JitteredCrop(16, (0.3, 1.0), RATIO, flip=True, **{**MOCO, **changes})


@pytest.mark.parametrize("name", CHANGES)
def test_changes_are_torchvisions_each_image_by_its_own_amount(name):
    change, reference, amount, factor = CHANGES[name]
    images, draws = pictures(), torch.linspace(-1, 1, 6)
    changed = change(images, amount(draws))
    for image, draw, result in zip(images, draws.tolist(), changed, strict=True):
        assert torch.allclose(result, reference(image, factor(draw)), atol=1e-5)
    assert not torch.allclose(changed, images, atol=0.05)


def test_hues_of_all_sorts_of_pixels_turn_as_torchvisions():
    """Greys, black, white, pure colours, two equal channels: where sectors meet."""
    steps = torch.tensor([0.0, 0.25, 0.5, 1.0])
    pixels = torch.cartesian_prod(steps, steps, steps).T.reshape(1, 3, 8, 8)
    amounts = torch.tensor([-0.5, -1 / 3, -0.1, 0.0, 1 / 6, 0.37, 0.5])
    changed = jitter.turn(pixels.expand(len(amounts), -1, -1, -1), amounts)
    for amount, result in zip(amounts.tolist(), changed, strict=True):
        torch.testing.assert_close(result, theirs.adjust_hue(pixels[0], amount), atol=3e-6, rtol=0)


def test_grey_is_torchvisions():
    images = pictures()
    assert torch.allclose(jitter.grey(images), theirs.rgb_to_grayscale(images), atol=1e-6)


def test_blur_is_a_gaussian_that_keeps_brightness():
    images, deviations = pictures(4, 24), torch.tensor([0.1, 0.5, 1.0, 2.0])
    blurred = jitter.blur(images, deviations)
    for image, deviation, result in zip(images, deviations.tolist(), blurred, strict=True):
        inner = (slice(None), slice(11, 13), slice(11, 13))  # where the kernel of 23 does not reach past the border
        expected = theirs.gaussian_blur(image, [23, 23], [deviation, deviation])
        assert torch.allclose(result[inner], expected[inner], atol=1e-4)
    assert torch.allclose(blurred[0], images[0], atol=1e-4)
    flat = torch.full((1, 3, 8, 8), 0.7)
    assert torch.allclose(jitter.blur(flat, torch.tensor([2.0])), flat, atol=1e-5)


def coloured_by_loop(image, draws, strengths, shares):
    """What MoCo v2 does to one image in [0, 1], by torchvision's functions."""
    adjust = (theirs.adjust_brightness, theirs.adjust_contrast, theirs.adjust_saturation, theirs.adjust_hue)
    if draws[8] < shares[0]:
        for _, kind in sorted((draws[4 + kind].item(), kind) for kind in range(4)):
            amount = (2 * draws[kind].item() - 1) * strengths[kind]
            image = adjust[kind](image, amount if kind == 3 else 1 + amount)
    if draws[9] < shares[1]:
        image = theirs.rgb_to_grayscale(image, 3)
    return image


def test_each_image_has_its_own_order_and_its_own_share():
    count = 60
    images = pictures(6).repeat(10, 1, 1, 1)
    epochs, indices = torch.full((count,), 2), torch.arange(count)
    ours = denormalise(augmentation(blur_share=0.0).coloured(images * 255, 5, epochs, indices))
    draws = uniform(5, epochs, indices, 12, COLOUR)
    for image, row, result in zip(images, draws, ours, strict=True):
        assert torch.allclose(result, coloured_by_loop(image, row, (0.4, 0.4, 0.4, 0.1), (0.8, 0.2)), atol=2e-4)
    assert len({tuple(row.argsort().tolist()) for row in draws[:, 4:8]}) > 15  # of 24 orders
    grey = (ours.amax(dim=1) - ours.amin(dim=1)).flatten(1).amax(dim=1) < 1e-4
    assert grey.tolist() == (draws[:, 9] < 0.2).tolist()


def test_blurred_are_those_that_are_drawn():
    images, indices = pictures(6).repeat(10, 1, 1, 1), torch.arange(60)
    only = denormalise(augmentation(jitter_share=0.0, grey_share=0.0).coloured(images * 255, 1, 0 * indices, indices))
    draws = uniform(1, 0 * indices, indices, 12, COLOUR)
    for image, row, result in zip(images, draws, only, strict=True):
        expected = jitter.blur(image[None], 0.1 + 1.9 * row[11:12])[0] if row[10] < 0.5 else image
        assert torch.allclose(result, expected, atol=1e-5)


def test_with_nothing_to_do_it_is_the_plain_crop():
    arrays, indices = as_batch(*[photo(20, 20, seed) for seed in range(8)]), torch.arange(8)
    nothing = augmentation(jitter_share=0.0, grey_share=0.0, blur_share=0.0)
    plain = RandomCrop(16, (0.3, 1.0), RATIO, flip=True)
    assert torch.allclose(
        nothing.batch(arrays, 0, 0 * indices, indices),
        normalised(plain.batch(arrays, 0, 0 * indices, indices)),
        atol=1e-5,
    )


def test_in_memory_and_in_files_agree():
    arrays = [photo(32, 32, seed) for seed in range(12)]
    epochs, indices = torch.full((12,), 4), torch.arange(12)
    batch = augmentation(hue=0.0).batch(as_batch(*arrays), 1, epochs, indices)
    sizes = torch.tensor([[32, 32]]).expand(12, 2)
    single = augmentation(hue=0.0).read(reading(arrays), sizes, 1, epochs, indices)
    apart = (denormalise(batch) - denormalise(single)).abs() * 255
    assert apart.max() < 4 and apart.mean() < 0.05  # the crops differ by rounding, which contrast enlarges


def test_colours_depend_on_seed_epoch_and_index_alone():
    arrays, indices = as_batch(*[photo(16, 16)] * 20), torch.arange(20)
    crop = augmentation()
    first = crop.batch(arrays, 0, 0 * indices, indices)
    torch.manual_seed(99)
    assert torch.equal(crop.batch(arrays, 0, 0 * indices, indices.flip(0)).flip(0), first)
    assert len({tuple(row.flatten().tolist()) for row in first}) == 20
    assert not torch.equal(crop.batch(arrays, 1, 0 * indices, indices), first)
    assert np.isfinite(first.numpy()).all()
