"""Batches of a packed set: the same whatever the loader does."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from pipeline.config import ConfigError
from pipeline.data.images import VIEW, Images, as_it_is
from pipeline.data.packed import PackWriter
from pipeline.data.policies import AutoAugmented
from pipeline.data.transforms import CenterCrop, RandomCrop, denormalise, normalised

CROP = RandomCrop(16, (0.2, 1.0), (3 / 4, 4 / 3), flip=True)
SAMPLES = [(epoch, index) for epoch in (0, 3) for index in (5, 0, 11, 7, 7, 2)]


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    with PackWriter(tmp_path, "train", 2**20) as pack:
        for number in range(12):
            pixels = np.asarray(Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8)).resize((16, 16)))
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG")
            pack.add(f"{number}.png", buffer.getvalue(), label=number % 2, height=16, width=16)
    (tmp_path / "classes.json").write_text(json.dumps(["even", "odd"]))
    return tmp_path


def test_a_batch_has_the_samples_asked_for(folder):
    batch = Images(folder, "train", CROP, seed=0).__getitems__(SAMPLES)
    assert batch["images"].shape == (12, 3, 16, 16) and batch["images"].dtype == torch.float32
    assert list(zip(batch["epoch"].tolist(), batch["index"].tolist(), strict=True)) == SAMPLES
    assert batch["labels"].tolist() == [index % 2 for _, index in SAMPLES]
    assert torch.equal(batch["images"][3], batch["images"][4])  # the same sample twice
    assert not torch.equal(batch["images"][3], batch["images"][9])  # and in another epoch


@pytest.mark.parametrize("transform", [CROP, CenterCrop(12, 14)], ids=["random", "centre"])
def test_memory_and_files_agree(folder, transform):
    held, read = (Images(folder, "train", transform, seed=0, in_memory=limit) for limit in (2**20, 0))
    assert held.pixels is not None and read.pixels is None
    left, right = (images.__getitems__(SAMPLES)["images"] for images in (held, read))
    assert (denormalise(left) - denormalise(right)).abs().max() * 255 < 2.01


@pytest.mark.parametrize("limit", [0, 2**20], ids=["files", "memory"])
def test_workers_change_nothing(folder, limit):
    images = Images(folder, "train", AutoAugmented(16, (0.2, 1), (1, 1), "rand-m9", 0.25), 0, in_memory=limit)
    batches = [SAMPLES[start : start + 4] for start in range(0, 12, 4)]
    here, there = (
        [b["images"] for b in DataLoader(images, batch_sampler=batches, num_workers=n, collate_fn=as_it_is)]
        for n in (0, 2)
    )
    assert all(map(torch.equal, here, there)) and len(here) == 3
    together = images.__getitems__(SAMPLES)["images"]
    assert torch.equal(torch.cat(here), together)
    assert torch.equal(images[SAMPLES[2]]["images"], together[2])


def test_a_set_of_unequal_sizes_is_read_from_files(folder):
    with PackWriter(folder, "val", 2**20) as pack:
        for side in (16, 20):
            buffer = io.BytesIO()
            Image.new("RGB", (side, 16)).save(buffer, "PNG")
            pack.add(f"{side}.png", buffer.getvalue(), label=0, height=16, width=side)
    images = Images(folder, "val", CROP, seed=0)
    assert images.pixels is None and images.__getitems__([(0, 0), (0, 1)])["images"].shape == (2, 3, 16, 16)


def test_a_file_that_cannot_be_decoded_is_named(folder):
    with PackWriter(folder, "val", 2**20) as pack:
        pack.add("n01/broken.JPEG", b"\xff\xd8 no", label=0)
    with pytest.raises(ValueError, match=r"n01/broken.JPEG of .* cannot be decoded.*prepare the data again"):
        Images(folder, "val", CROP, seed=0)[(0, 0)]


def test_a_second_view_is_another_draw_of_the_same_image(folder):
    two = Images(folder, "train", CROP, seed=0, views=2)
    batch, one = two.__getitems__(SAMPLES), Images(folder, "train", CROP, seed=0).__getitems__(SAMPLES)
    assert torch.equal(batch["images"], one["images"]) and "view" not in one
    assert batch["view"].shape == batch["images"].shape and not torch.equal(batch["view"], batch["images"])
    still = Images(folder, "train", CenterCrop(16, 16), seed=0, views=2).__getitems__(SAMPLES)
    assert torch.equal(still["view"], still["images"])


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_partners_share_a_class_as_often_as_wanted(folder, share):
    images = Images(folder, "train", CenterCrop(16, 16), seed=0, same_class_share=share)
    epochs = torch.arange(3000)
    indices = epochs % 12
    partners = images.partners(epochs, indices)
    assert partners.min() == 0 and partners.max() == 11
    alike = (images.labels[partners] == images.labels[indices]).float().mean()
    assert abs(float(alike) - (share + (1 - share) / 2)) < 0.03
    if share == 1:
        assert not (partners == indices).any(), "an image is not its own partner"
        seen = {(int(i), int(p)) for i, p in zip(indices, partners, strict=True)}
        assert len(seen) == 12 * 5, "every other image of the class is drawn"
    assert torch.equal(partners, images.partners(epochs, indices))
    batch = images.__getitems__(SAMPLES)
    chosen = images.partners(batch["epoch"], batch["index"])
    plain = Images(folder, "train", CenterCrop(16, 16), seed=0)
    assert torch.equal(batch["partner"], plain.__getitems__([(0, int(index)) for index in chosen])["images"])


def test_a_class_of_one_image_has_no_partners(folder):
    (folder / "classes.json").write_text(json.dumps(["even", "odd", "lonely"]))
    packed = Images(folder, "train", CROP, seed=0)
    packed.labels[3] = 2
    packed.same_class_share = 0.5
    with pytest.raises(ConfigError, match=r"1 classes of .* have one image only \(lonely\); expected at least two"):
        packed._by_class()


def test_levels_are_what_is_normalised(folder):
    levels, values = (
        Images(folder, "train", CROP, 0, 0, raw=raw).__getitems__(SAMPLES)["images"] for raw in (True, False)
    )
    assert levels.dtype == torch.uint8 and torch.equal(normalised(levels), values)


@pytest.mark.parametrize(
    "transform", [CROP, AutoAugmented(16, (0.2, 1), (1, 1), "rand-m9", 0.25)], ids=["crop", "auto"]
)
def test_two_views_come_of_one_decoding(folder, transform, monkeypatch):
    """And each is what it would be alone."""
    together = Images(folder, "train", transform, seed=0, in_memory=0, views=2)
    alone = [
        Images(folder, "train", transform, seed, in_memory=0).__getitems__(SAMPLES)["images"] for seed in (0, VIEW)
    ]
    decoded = []
    monkeypatch.setattr(
        together, "_decode", lambda index, factor: decoded.append(index) or Images._decode(together, index, factor)
    )
    batch = together.__getitems__(SAMPLES)
    assert torch.equal(batch["images"], alone[0]) and torch.equal(batch["view"], alone[1])
    assert decoded == [5, 0, 11, 7, 2] * 2  # 7 stands twice in a row


def test_an_image_of_another_size_than_the_index_says_is_refused(folder):
    images = Images(folder, "train", CROP, seed=0, in_memory=0)
    images.packed.sizes[5] = (16, 24)
    with pytest.raises(ConfigError, match=r"5.png of train in .* has \(16, 16\) pixels, and the index says \(16, 24\)"):
        images.__getitems__(SAMPLES)
