"""Samples of one task or of all, with labels of the task and pixels in its order."""

import pytest
import torch

from pipeline.config import ConfigError
from pipeline.data.kinds.task_stream import KEY, first_of_each, open_train
from pipeline.data.sources.task_stream import digit_tasks
from pipeline.data.streams import order_of

DIGITS = {"classes_per_task": None, "tasks": None, "permutations": None, "val_share": 0.2, "test_share": 0.3, "seed": 0}
SETTINGS = {"augment": {"image_size": 8}, "options": {}}


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    def prepared(**way):
        folder = tmp_path_factory.mktemp("stream")
        (folder / "files").mkdir()
        digit_tasks.prepare(digit_tasks.Options(**DIGITS | way), folder / "work", folder / "files")
        return folder

    return {"pairs": prepared(tasks=(("7", "3", "5"), ("0", "1", "2", "4", "6", "8", "9"))),
            "orders": prepared(permutations=3)}  # fmt: skip


def all_of(samples):
    return samples.__getitems__([(0, index) for index in range(len(samples))])


def test_labels_are_places_in_the_task(stream):
    samples = open_train(stream["pairs"], SETTINGS | {"task": 0, "split": "test"}, 0)
    batch = all_of(samples)
    digits = samples.images.labels[samples.places]
    assert [int(digits[batch["labels"] == label].unique()) for label in range(3)] == [7, 3, 5]
    both = all_of(open_train(stream["pairs"], SETTINGS | {"task": None, "split": "test"}, 0))
    assert len(both["labels"]) == len(samples.images) and both["task"].unique().tolist() == [0, 1]
    assert torch.equal(both[KEY][both["task"] == 0], batch[KEY])
    assert len(first_of_each(stream["pairs"], SETTINGS, 0, 8)["labels"]) == 3


def test_splits_share_no_image(stream):
    keys = [set(open_train(stream["pairs"], SETTINGS | {"split": split}, 0).images.packed.keys)
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
