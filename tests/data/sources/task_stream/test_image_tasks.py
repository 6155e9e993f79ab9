"""Streams from the official layouts: what is read, held out and shared out over tasks, and what is refused."""

import gzip
import json

import numpy as np
import pytest
from PIL import Image

from pipeline.config import ConfigError
from pipeline.data.packed import Packed
from pipeline.data.pictures import decode
from pipeline.data.sources.task_stream.digit_tasks import write_idx
from pipeline.data.sources.task_stream.image_tasks import Options, prepare

RNG = np.random.default_rng(0)
USUAL = {"classes_per_task": 2, "tasks": None, "permutations": None, "val_share": 0.25, "seed": 0, "expect": None,
         "max_reject_share": 0.0, "shard_mib": 1, "num_workers": 1}  # fmt: skip


def options(root, layout, **changes):
    return Options(root=str(root), layout=layout, **USUAL | changes)


@pytest.fixture
def mnist(tmp_path):
    root = tmp_path / "mnist"
    root.mkdir()
    for prefix, count in (("train", 40), ("t10k", 20)):
        write_idx(root / f"{prefix}-images-idx3-ubyte", RNG.integers(0, 256, (count, 6, 5), np.uint8))
        write_idx(root / f"{prefix}-labels-idx1-ubyte", (np.arange(count) % 10).astype(np.uint8))
    return root


@pytest.fixture
def cifar(tmp_path):
    root = tmp_path / "cifar"
    root.mkdir()
    (root / "fine_label_names.txt").write_text("".join(f"name{i}\n" for i in range(6)))
    for split, count in (("train", 24), ("test", 12)):
        rows = RNG.integers(0, 256, (count, 3074), np.uint8)
        rows[:, 1] = np.arange(count) % 6
        (root / f"{split}.bin").write_bytes(rows.tobytes())
    return root


@pytest.fixture
def tiny(tmp_path):
    root = tmp_path / "tiny"
    (root / "val/images").mkdir(parents=True)
    names = ["n02", "n01"]
    (root / "wnids.txt").write_text("\n".join(names))
    lines = []
    for i, name in enumerate(names):
        (root / f"train/{name}/images").mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (8, 8), (10 * number, 0, 0)).save(root / f"train/{name}/images/{name}_{number}.JPEG")
        Image.new("RGB", (8, 8)).save(root / f"val/images/val_{i}.JPEG")
        lines.append(f"val_{i}.JPEG\t{name}\t0\t0\t5\t5\n")
    (root / "val/val_annotations.txt").write_text("".join(lines))
    return root


def test_mnist_is_read_as_it_is_and_some_of_each_class_is_held_out(mnist, tmp_path):
    path = mnist / "t10k-images-idx3-ubyte"
    raw = path.read_bytes()
    (mnist / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(raw))
    path.unlink()
    data = prepare(options(mnist, "mnist", expect={"train": 40, "test": 20}), tmp_path, tmp_path / "files")
    assert data["splits"] == {"train": {"count": 30}, "val": {"count": 10}, "test": {"count": 20}}
    train, val, test = (Packed(tmp_path / "files", split) for split in ("train", "val", "test"))
    assert sorted(val.labels) == list(range(10)) and not set(train.keys) & set(val.keys)
    pixels = np.frombuffer(raw, np.uint8, offset=16).reshape(20, 6, 5)
    assert (np.asarray(decode(test.read(7)))[..., 0] == pixels[7]).all() and test.labels[7] == 7
    stream = json.loads((tmp_path / "files/stream.json").read_text())
    assert [task["classes"] for task in stream] == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]


def test_cifar_keeps_channels_and_fine_labels(cifar, tmp_path):
    prepare(options(cifar, "cifar100", classes_per_task=3), tmp_path, tmp_path / "files")
    test = Packed(tmp_path / "files", "test")
    row = np.frombuffer((cifar / "test.bin").read_bytes(), np.uint8).reshape(12, 3074)[8]
    assert test.labels[8] == row[1] == 2
    assert (np.asarray(decode(test.read(8))) == row[2:].reshape(3, 32, 32).transpose(1, 2, 0)).all()


def test_tiny_imagenet_has_its_validation_images_as_test(tiny, tmp_path):
    data = prepare(options(tiny, "tiny_imagenet"), tmp_path, tmp_path / "files")
    assert data["classes"] == ["n01", "n02"] and data["splits"]["val"]["count"] == 2
    test = Packed(tmp_path / "files", "test")
    assert dict(zip(test.keys, test.labels.tolist(), strict=True)) == {
        "val/images/val_0.JPEG": 1, "val/images/val_1.JPEG": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"classes_per_task": 3}, "classes_per_task is 3; expected a divisor of the 10 classes"),
        ({"classes_per_task": 1}, r"task 1 has the classes \['0'\]; expected two or more"),
        ({"tasks": (("0", "1"), ("1", "2"))}, "said by .'classes_per_task', 'tasks'.; expected one of"),
        ({"classes_per_task": None}, "said by nothing; expected one of"),
        ({"classes_per_task": None, "tasks": (("0", "1"), ("1", "2"))}, r"tasks names \['1'\] twice"),
        ({"classes_per_task": None, "tasks": (("0", "1"),)}, r"tasks leaves out \['2', .*8 of 10 classes"),
        ({"classes_per_task": None, "tasks": (("0", "zwei"),)}, r"tasks names \['zwei'\], which are no classes"),
        ({"val_share": 0.01}, "val_share is 0.01, and '0' has 4 images; expected some on both sides"),
        ({"expect": {"test": 10000}}, r"20 test \(expected 10,000\)"),
    ],
)
def test_a_stream_that_cannot_be_is_one_error(mnist, tmp_path, changes, words):
    with pytest.raises(ConfigError, match=words):
        prepare(options(mnist, "mnist", **changes), tmp_path, tmp_path / "files")


def test_damaged_files_are_one_error(mnist, cifar, tiny, tmp_path):
    images = mnist / "train-images-idx3-ubyte"
    for data in (b"", images.read_bytes()[:-1], b"\0\0\x08\x03" + b"\xff" * 12, b"\x1f\x8b broken"):
        images.write_bytes(data)
        with pytest.raises(ConfigError, match=r"train-images-idx3-ubyte.* Expected: train-images"):
            prepare(options(mnist, "mnist"), tmp_path, tmp_path / "files")
    (cifar / "train.bin").write_bytes(b"\0\x09" + b"\0" * 3072)
    with pytest.raises(ConfigError, match="has the class 9; expected one of 6"):
        prepare(options(cifar, "cifar100"), tmp_path, tmp_path / "files")
    (cifar / "train.bin").write_bytes(b"\0" * 3073)
    with pytest.raises(ConfigError, match="3,073 bytes; expected 3,074 for each image"):
        prepare(options(cifar, "cifar100"), tmp_path, tmp_path / "files")
    (tiny / "val/val_annotations.txt").write_text("val_0.JPEG\tn77\n")
    with pytest.raises(ConfigError, match=r"val_0\.JPEG is of 'n77', not in wnids\.txt"):
        prepare(options(tiny, "tiny_imagenet"), tmp_path, tmp_path / "files")
