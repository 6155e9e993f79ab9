"""Crops against slow rewrites of their papers' procedures, against torchvision, and in memory against in files."""

import math
import random

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform
from torchvision.transforms import v2

from pipeline.data.draws import AUGMENT, CROP, bits, uniform
from pipeline.data.policies import AutoAugmented, _generators_kept, _seed
from pipeline.data.resample import resample
from pipeline.data.transforms import MEAN, STD, CenterCrop, RandomCrop, denormalise, normalised, read_box, resize

SCALE, RATIO = (0.2, 1.0), (3 / 4, 4 / 3)


def photo(height, width, seed=0):
    """Something smooth with edges."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / (3 + k) + seed) * np.cos(y / (5 - k)) for k in range(3)]
    pixels = 127 + 100 * np.stack(waves, axis=2)
    pixels[height // 3 : height // 2, width // 4 : width // 2] = (250, 5, 90)
    return pixels.clip(0, 255).astype(np.uint8)


def as_batch(*arrays):
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()


def reading(arrays):
    """Of which nothing is reduced, for tests of boxes that ask for nothing else."""
    images = as_batch(*arrays)

    def decode(index, factor):
        assert factor == 1
        return images[index]

    return decode


def crop_by_loop(draws, height, width, scale, ratio):
    """torchvision's RandomResizedCrop.get_params, one image, with draws given."""
    for attempt in range(10):
        area = height * width * (scale[0] + (scale[1] - scale[0]) * draws[attempt])
        low, high = math.log(ratio[0]), math.log(ratio[1])
        shape = math.exp(low + (high - low) * draws[10 + attempt])
        w, h = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if 0 < w <= width and 0 < h <= height:
            return int(draws[20] * (height - h + 1)), int(draws[21] * (width - w + 1)), h, w
    if width / height < ratio[0]:
        w, h = width, round(width / ratio[0])
    elif width / height > ratio[1]:
        w, h = round(height * ratio[1]), height
    else:
        w, h = width, height
    return (height - h) // 2, (width - w) // 2, h, w


@pytest.mark.parametrize("height, width", [(16, 16), (375, 500), (40, 300), (300, 31), (1, 1)])
def test_crops_are_those_of_the_loop(height, width):
    crop = RandomCrop(8, SCALE, RATIO, flip=True)
    indices = torch.arange(200)
    boxes, flips = crop.parameters(5, 2 + 0 * indices, indices, height, width)
    draws = uniform(5, 2, indices, 23, CROP).double().tolist()
    expected = [crop_by_loop(row, height, width, SCALE, RATIO) for row in draws]
    assert [tuple(box) for box in boxes.tolist()] == expected
    assert flips.tolist() == [row[22] < 0.5 for row in draws]


def test_crops_are_distributed_as_torchvisions():
    indices = torch.arange(4000)
    boxes, _ = RandomCrop(8, SCALE, RATIO, flip=False).parameters(0, 0 * indices, indices, 375, 500)
    torch.manual_seed(0)
    theirs = v2.RandomResizedCrop(8, SCALE, RATIO)
    image = torch.zeros(3, 375, 500)
    other = [theirs.make_params([image]) for _ in range(4000)]
    other = torch.tensor([[box[name] for name in ("top", "left", "height", "width")] for box in other]).double()
    spread = other.std(0)
    assert ((boxes.double().mean(0) - other.mean(0)).abs() < 0.1 * spread).all()  # about four standard errors
    assert ((boxes.double().std(0) / spread - 1).abs() < 0.06).all()


def test_a_single_draw_is_clamped_to_the_image():
    crop = RandomCrop(8, (0.08, 1.0), RATIO, flip=False, single_draw=True)
    indices = torch.arange(300)
    boxes, flips = crop.parameters(0, 0 * indices, indices, 60, 100)
    for (top, left, height, width), row in zip(
        boxes.tolist(), uniform(0, 0, indices, 5, CROP).double().tolist(), strict=True
    ):
        area = 6000 * (0.08 + 0.92 * row[0])
        shape = math.exp(math.log(3 / 4) + math.log(16 / 9) * row[1])
        assert height == min(round(math.sqrt(area / shape)), 60)
        assert width == min(round(math.sqrt(area * shape)), 100)
        assert top == int(row[2] * (61 - height)) and left == int(row[3] * (101 - width))
    assert (boxes[:, 2] == 60).any() and not flips.any()


@pytest.mark.parametrize("kernel", ["bicubic", "bilinear"])
@pytest.mark.parametrize("height, width, size", [(16, 16, 16), (32, 32, 16), (40, 60, 24)])
def test_in_memory_and_in_files_agree(height, width, size, kernel):
    arrays = [photo(height, width, seed) for seed in range(12)]
    crop = RandomCrop(size, (0.08, 1.0), RATIO, flip=True, interpolation=kernel)
    epochs, indices = torch.full((12,), 4), torch.arange(12)
    batch = crop.batch(as_batch(*arrays), 1, epochs, indices)
    single = crop.read(reading(arrays), torch.tensor([[height, width]]).expand(12, 2), 1, epochs, indices)
    assert batch.shape == (12, 3, size, size) and batch.dtype == single.dtype == torch.uint8
    apart = (batch.float() - single.float()).abs()
    # Rounded after each of two passes; halves, which bilinear weights often give, either way.
    assert apart.max() < 2.01 and apart.mean() < (0.02 if kernel == "bicubic" else 0.1)


def test_a_box_is_cut_mirrored_and_resized():
    image = photo(20, 30)
    boxes, flips = torch.tensor([[3, 5, 8, 8], [3, 5, 8, 8]]), torch.tensor([False, True])
    plain, mirrored = resample(as_batch(image, image), boxes, flips, 8)
    cut = torch.from_numpy(image[3:11, 5:13]).permute(2, 0, 1).float()
    assert torch.equal(plain, cut)  # no resizing: the very pixels
    assert torch.equal(mirrored, cut.flip(2))


@pytest.mark.parametrize(("box", "size"), [((10, 20, 200, 260), 96), ((0, 0, 300, 400), 224), ((50, 60, 60, 45), 64)])
def test_resizing_is_pillows_but_for_a_level(box, size):
    """Of the hardest case, noise; bilinear weights are often halves, which are rounded either way."""
    image = photo(300, 400)
    top, left, height, width = box
    cut = Image.fromarray(image).crop((left, top, left + width, top + height))
    for kernel in ("bicubic", "bilinear"):
        theirs = np.asarray(cut.resize((size, size), getattr(Image.Resampling, kernel.upper()))).astype(int)
        ours = resize(as_batch(image)[0], box, size, kernel).permute(1, 2, 0).numpy().astype(int)
        assert np.abs(ours - theirs).max() <= 2 and np.abs(ours - theirs).mean() < 0.01


@pytest.mark.parametrize(("side", "factor"), [(63, 1), (64, 2), (127, 2), (128, 4), (300, 8)])
def test_a_file_is_reduced_while_two_pixels_are_left_for_each(side, factor):
    asked = []

    def decode(index, by):
        asked.append((index, by))
        return torch.full((3, 400 // by, 400 // by), 7, dtype=torch.uint8)

    assert (read_box(decode, 5, (40, 50, side, side + 9), 16, "bicubic") == 7).all()
    assert asked == [(5, factor)]


def test_timm_draws_the_same():
    """Crop, mirroring and the erased rectangle with its noise, in the order of timm's own transform."""
    images = [Image.fromarray(photo(60, 80, seed)).resize((240, 180)) for seed in range(12)]
    augment = AutoAugmented(64, (0.3, 1.0), RATIO, None, 0.6)
    theirs = create_transform(
        64, is_training=True, scale=(0.3, 1.0), ratio=RATIO, color_jitter=None, interpolation="bicubic", re_prob=0.6,
        re_mode="pixel", mean=MEAN, std=STD,
    )  # fmt: skip
    epochs, indices = torch.full((12,), 3), torch.arange(12)
    sizes = torch.tensor([[180, 240]]).expand(12, 2)
    ours = augment.read(reading([np.asarray(image) for image in images]), sizes, 0, epochs, indices)
    with _generators_kept():
        for image, key, found in zip(images, bits(0, epochs, indices, AUGMENT).tolist(), ours, strict=True):
            _seed(key)
            assert (theirs(image) - found).abs().max() < 0.04  # two levels


def test_results_are_normalised_as_imagenet():
    white = torch.full((1, 3, 8, 8), 255, dtype=torch.uint8)
    crop = RandomCrop(8, SCALE, RATIO, flip=True)
    result = normalised(crop.batch(white, 0, torch.tensor([0]), torch.tensor([0])))[0, :, 0, 0]
    assert result.tolist() == pytest.approx([(1 - m) / s for m, s in zip(MEAN, STD, strict=True)], rel=1e-5)
    assert denormalise(result[:, None, None]).min() == pytest.approx(1)


@pytest.mark.parametrize("height, width, size, resize", [(40, 61, 28, 32), (33, 32, 32, 32), (16, 16, 16, 16)])
def test_centre_crop_is_torchvisions(height, width, size, resize):
    image = Image.fromarray(photo(height, width))
    theirs = v2.Compose([v2.Resize(resize, interpolation=v2.InterpolationMode.BICUBIC), v2.CenterCrop(size)])
    expected = (np.asarray(theirs(image)) / 255 - MEAN) / STD
    crop = CenterCrop(size, resize)
    pixels, zero = as_batch(np.asarray(image)), torch.tensor([0])
    single = normalised(crop.read(lambda *_: pixels[0], torch.tensor([[height, width]]), 0, zero, zero))[0]
    assert np.abs(single.permute(1, 2, 0).numpy() - expected).max() < 1e-5
    assert torch.equal(normalised(crop.batch(pixels, 0, zero, zero))[0], single)


def test_augmentation_depends_on_seed_epoch_and_index_alone():
    augment = AutoAugmented(16, (0.08, 1.0), RATIO, "rand-m9-mstd0.5-inc1", 0.25)
    images = as_batch(*[photo(16, 16)] * 30)
    epochs, indices = torch.zeros(30, dtype=torch.int64), torch.arange(30)
    first = augment.batch(images, 0, epochs, indices)
    random.seed(99), np.random.seed(99), torch.manual_seed(99)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    again = augment.batch(images.flip(0), 0, epochs, indices.flip(0)).flip(0)
    assert torch.equal(first, again)
    alone = augment.read(lambda index, _: images[index], torch.tensor([[16, 16]]), 0, epochs[7:8], indices[7:8])
    assert torch.equal(first[7], alone[0])
    assert states[:2] == (random.getstate(), np.random.get_state()[1].tolist())
    assert torch.equal(states[2], torch.get_rng_state())
    assert len({tuple(row.flatten().tolist()) for row in first}) == 30
    for other in (augment.batch(images, 1, epochs, indices), augment.batch(images, 0, epochs + 1, indices)):
        assert not (other == first).flatten(1).all(1).any()


def test_the_two_kernels_differ_and_bicubic_is_what_nothing_else_says():
    images, zero = as_batch(photo(16, 16)), torch.tensor([0])
    boxes, flips = torch.tensor([[2, 3, 9, 8]]), torch.tensor([False])
    plain, smooth = resample(images, boxes, flips, 16), resample(images, boxes, flips, 16, "bilinear")
    assert (plain - smooth).abs().max() > 3
    assert torch.equal(plain, resample(images, boxes, flips, 16, "bicubic"))
    crops = [RandomCrop(16, SCALE, RATIO, flip=True, **more) for more in ({}, {"interpolation": "bicubic"})]
    assert torch.equal(*(crop.batch(images, 0, zero, zero) for crop in crops))
    with pytest.raises(ValueError, match=r"interpolation is 'nearest'; available: \['bicubic', 'bilinear'\]"):
        RandomCrop(16, SCALE, RATIO, flip=True, interpolation="nearest")


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"scale is \(20, 100\); expected smallest and largest"):
        RandomCrop(8, (20, 100), RATIO, flip=True)
    with pytest.raises(ValueError, match=r"resize is 200; expected at least image_size, 224"):
        CenterCrop(224, 200)
