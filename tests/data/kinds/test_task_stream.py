"""Samples of one task or of all, with labels of the task and pixels in its order."""

import shutil

import numpy as np
import pytest
import torch

from pipeline.config import ConfigError
from pipeline.data.kinds.task_stream import KEY, example, first_of_each, open_eval, open_train
from pipeline.data.kinds.text import Texts
from pipeline.data.sources.task_stream import digit_tasks, topic_tasks
from pipeline.data.streams import order_of

DIGITS = {"classes_per_task": None, "tasks": None, "permutations": None, "val_share": 0.2, "test_share": 0.3, "seed": 0}
TOPICS = {"num_tasks": 2, "topics_per_task": 3, "per_class": 4, "test_per_class": 2, "length": 8, "own_share": 0.5,
          "words_per_topic": 5, "noise_words": 10, "vector_width": 16, "seed": 0}  # fmt: skip
AS_THEY_ARE = {"kind": "crop", "image_size": 8, "scale": [1.0, 1.0], "ratio": [1.0, 1.0], "flip": False}
SETTINGS = {"model": "masked_lenet", "augment": AS_THEY_ARE, "text": {"length": 6}, "options": {}}
TEXTS = SETTINGS | {"model": "masked_text_cnn_micro"}


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    def prepared(**way):
        folder = tmp_path_factory.mktemp("stream")
        (folder / "files").mkdir()
        digit_tasks.prepare(digit_tasks.Options(**DIGITS | way), folder / "work", folder / "files")
        return folder

    return {"pairs": prepared(tasks=(("7", "3", "5"), ("0", "1", "2", "4", "6", "8", "9"))),
            "orders": prepared(permutations=3)}  # fmt: skip


@pytest.fixture(scope="module")
def topics(tmp_path_factory):
    folder = tmp_path_factory.mktemp("topics")
    (folder / "files").mkdir()
    topic_tasks.prepare(topic_tasks.Options(**TOPICS), folder / "work", folder / "files")
    return folder


def all_of(samples):
    return samples.__getitems__([(0, index) for index in range(len(samples))])


def test_labels_are_places_in_the_task(stream):
    samples = open_train(stream["pairs"], SETTINGS | {"task": 0, "split": "test"}, 0)
    batch = all_of(samples)
    digits = samples.everything.labels[samples.places]
    assert [int(digits[batch["labels"] == label].unique()) for label in range(3)] == [7, 3, 5]
    both = all_of(open_train(stream["pairs"], SETTINGS | {"task": None, "split": "test"}, 0))
    assert len(both["labels"]) == len(samples.everything) and both["task"].unique().tolist() == [0, 1]
    assert torch.equal(both[KEY][both["task"] == 0], batch[KEY])
    assert len(first_of_each(stream["pairs"], SETTINGS, 0, 8)["labels"]) == 3


def test_splits_share_no_image(stream):
    keys = [set(open_train(stream["pairs"], SETTINGS | {"split": split}, 0).everything.packed.keys)
            for split in ("train", "val", "test")]  # fmt: skip
    assert sum(map(len, keys)) == len(set.union(*keys)) == 1797


def test_each_task_sees_the_same_pixels_in_its_own_order(stream):
    first, second = (all_of(open_train(stream["orders"], SETTINGS | {"task": task}, 0))[KEY] for task in (0, 1))
    assert not torch.equal(first, second) and torch.equal(
        first.flatten(2).sort().values, second.flatten(2).sort().values
    )
    undone = [pixels.flatten(2)[..., torch.from_numpy(order_of([0, task], 64)).argsort()]
              for task, pixels in enumerate((first, second))]  # fmt: skip
    assert torch.equal(*undone)
    everything = all_of(open_train(stream["orders"], SETTINGS | {"task": None}, 0))
    assert torch.equal(everything[KEY][everything["task"] == 1], second)


def test_a_method_told_of_another_stream_is_refused(stream):
    with pytest.raises(ConfigError, match=r"options.num_tasks is 5, and the stream .* has 3; set it to that"):
        open_train(stream["orders"], SETTINGS | {"options": {"num_tasks": 5}}, 0)
    with pytest.raises(ConfigError, match=r"task 4 is wanted, and the stream .* has 3 tasks"):
        open_train(stream["orders"], SETTINGS | {"task": 3}, 0)


def test_texts_are_the_vectors_of_their_words(topics):
    samples = open_train(topics, TEXTS | {"task": 1, "split": "test"}, 0)
    assert samples.unit == "texts" and len(samples) == 6
    batch = all_of(samples)
    assert batch[KEY].shape == (6, 6, 16) and batch["task"].tolist() == [1] * 6
    ids = Texts(topics, "test", {"context": 0, "length": 6}).__getitems__(
        [(0, place) for place in samples.places.tolist()]
    )
    table = torch.from_numpy(np.load(topics / "files/vectors.npy"))
    assert torch.equal(batch[KEY], table[ids["text"][:, 0]]) and not table[0].any() and table[1:].any(dim=1).all()
    known = [samples.everything.classes[int(targets.argmax())] for targets in ids["targets"]]
    assert known == [f"topics2: {1 + label}" for label in batch["labels"].tolist()]
    again = all_of(open_eval(topics, "test", {"image_size": 8, "text": {"length": 6}, "task": 1}))
    assert all(torch.equal(batch[name], again[name]) for name in batch)
    assert len(first_of_each(topics, TEXTS, 0, 8)["labels"]) == 3


def test_an_example_is_as_a_batch_of_texts(topics):
    settings = TEXTS | {"options": {"num_tasks": 2, "num_classes": 3}}
    made, real = example(settings, 4), open_train(topics, settings, 0).__getitems__([(0, index) for index in range(4)])
    assert {name: (values.shape, values.dtype) for name, values in made.items()} == {
        name: (values.shape, values.dtype) for name, values in real.items()
    }


def test_a_method_told_of_another_stream_of_texts_is_refused(stream, topics):
    for name, said, there in (("num_tasks", 5, 2), ("num_classes", 14, 3)):
        with pytest.raises(
            ConfigError, match=rf"options.{name} is {said}, and the stream .* has {there}; set it to that"
        ):
            open_train(topics, TEXTS | {"options": {name: said}}, 0)
    with pytest.raises(
        ConfigError, match=r"masked_lenet, which takes images, and .* has words in vectors of 16; choose"
    ):
        open_train(topics, SETTINGS, 0)
    with pytest.raises(
        ConfigError, match=r"masked_text_cnn, which takes words in vectors of 300, and .* vectors of 16"
    ):
        open_train(topics, SETTINGS | {"model": "masked_text_cnn"}, 0)
    with pytest.raises(
        ConfigError, match=r"masked_text_cnn_micro, which takes words in vectors of 16, and .* has images"
    ):
        open_train(stream["orders"], TEXTS, 0)


def test_damaged_vectors_are_one_error(topics, tmp_path):
    shutil.copytree(topics, tmp_path / "topics")
    path = tmp_path / "topics/files/vectors.npy"
    whole = path.read_bytes()
    for damaged in (whole[:-1], b"", whole.replace(b"<f4", b"<i4")):
        path.write_bytes(damaged)
        with pytest.raises(ConfigError, match=r"vectors\.npy is .*; prepare the data again"):
            open_train(tmp_path / "topics", TEXTS, 0)
