"""A small set is decoded once a process, and anew when its files are others."""

import os

import pytest

from pipeline.data import held as module
from pipeline.data.held import MOST, held
from pipeline.data.packed import Packed, PackWriter


@pytest.fixture
def packed(tmp_path):
    def write(split, content=b"a"):
        with PackWriter(tmp_path, split, 2**20) as pack:
            pack.add("one", content, label=0)
        return Packed(tmp_path, split)

    return write


def test_it_is_made_once_for_a_split_in_a_form(packed):
    made = []
    first = held(packed("train"), 8, lambda: made.append("train") or [1])
    assert held(Packed(packed("val").folder, "train"), 8, lambda: made.append("again")) is first
    held(packed("val"), 8, lambda: made.append("val"))
    held(Packed(packed("val").folder, "train"), 16, lambda: made.append("other form"))
    assert made == ["train", "val", "other form"]


def test_it_is_made_anew_when_the_set_was_prepared_again(packed):
    held(packed("train"), 8, lambda: 1)
    again = packed("train", b"bb")
    os.utime(again.folder / "train.index.npz", ns=(1, 1))
    assert held(again, 8, lambda: 2) == 2


def test_the_last_ones_are_kept(packed):
    train = packed("train")
    for form in range(MOST + 3):
        held(train, form, lambda: form)  # noqa: B023
    assert len(module._KEPT) == MOST and held(train, MOST + 2, lambda: "anew") == MOST + 2
    assert held(train, 0, lambda: "anew") == "anew"
