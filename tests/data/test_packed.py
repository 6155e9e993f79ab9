"""Packs give back what was put in, whole or not at all."""

import multiprocessing
import pickle

import numpy as np
import pytest

from pipeline.data.packed import Packed, PackWriter

FILES = {f"n{number % 3}/é{number}.JPEG": bytes([number]) * (number * 7) for number in range(20)}


def write(folder, split="train", shard_bytes=300):
    with PackWriter(folder, split, shard_bytes) as pack:
        for number, (key, data) in enumerate(FILES.items()):
            pack.add(key, data, label=number % 3, height=number, width=2 * number)
    return folder


def read_all(packed):
    return [packed.read(position) for position in range(len(packed))]


def test_gives_back_every_file_from_several_shards(tmp_path):
    packed = Packed(write(tmp_path), "train")
    assert len(list(tmp_path.glob("train-*.bin"))) > 2
    assert packed.keys == list(FILES)
    assert read_all(packed) == list(FILES.values())
    assert packed.labels.dtype == np.int64 and packed.labels.tolist() == [n % 3 for n in range(20)]
    assert packed.sizes.tolist() == [[n, 2 * n] for n in range(20)]
    assert packed.find("n2/é5.JPEG") == 5
    with pytest.raises(KeyError, match=r"no file 'x' among the 20"):
        packed.find("x")


def test_the_same_files_give_the_same_bytes(tmp_path):
    one, two = write(tmp_path / "a"), write(tmp_path / "b")
    for file in one.iterdir():
        assert file.read_bytes() == (two / file.name).read_bytes()


def test_an_attempt_that_failed_is_no_split(tmp_path):
    with pytest.raises(RuntimeError), PackWriter(tmp_path, "train", 10) as pack:
        pack.add("a", b"x" * 100)
        pack.add("b", b"y" * 100)
        raise RuntimeError("disk on fire")
    with pytest.raises(FileNotFoundError, match="available: none"):
        Packed(tmp_path, "train")


@pytest.mark.parametrize("shard_bytes", [1, 300, 10**6])
@pytest.mark.parametrize("kept", range(0, 21, 4))
def test_goes_on_after_any_file(tmp_path, shard_bytes, kept):
    whole = write(tmp_path / "whole", shard_bytes=shard_bytes)
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut/train-labels-00009.bin").write_bytes(b"of another split")
    files = list(FILES.items())
    with pytest.raises(RuntimeError), PackWriter(tmp_path / "cut", "train", shard_bytes) as pack:
        for number, (key, data) in enumerate(files):
            if number == kept:
                rows = pack.checkpoint()
            pack.add(key, data, label=number % 3, height=number, width=2 * number)
        rows = pack.checkpoint() if kept == 20 else rows
        raise RuntimeError("power failure")
    with PackWriter(tmp_path / "cut", "train", shard_bytes) as pack:
        assert pack.holds(rows) and len(rows) == kept
        pack.restore(rows)
        for number, (key, data) in list(enumerate(files))[kept:]:
            pack.add(key, data, label=number % 3, height=number, width=2 * number)
        assert len(pack.checkpoint()) == 20 - kept
    (tmp_path / "cut/train-labels-00009.bin").unlink()
    found = {path.name: path.read_bytes() for path in (tmp_path / "cut").iterdir()}
    assert found == {path.name: path.read_bytes() for path in whole.iterdir()}


def test_a_shard_that_lost_bytes_holds_less(tmp_path):
    with PackWriter(tmp_path, "train", 150) as pack:
        for key in "abc":
            pack.add(key, b"x" * 100)
        rows = pack.checkpoint()
    assert pack.holds(rows)
    (tmp_path / "train-00000.bin").write_bytes(b"x" * 199)
    assert not pack.holds(rows) and pack.holds(rows[:1]) and not pack.holds(rows[1:])


def test_a_missing_split_is_told_with_those_that_are_there(tmp_path):
    write(tmp_path, "val")
    with pytest.raises(FileNotFoundError, match=r"no packed split 'train'.*available: val"):
        Packed(tmp_path, "train")


def test_a_shard_that_was_cut_off_is_noticed(tmp_path):
    shard = write(tmp_path) / "train-00001.bin"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"train-00001.bin holds .* bytes; its index expects"):
        Packed(tmp_path, "train")
    shard.unlink()
    with pytest.raises(ValueError, match=r"holds 0 bytes"):
        Packed(tmp_path, "train")


def test_travels_to_other_processes(tmp_path):
    packed = Packed(write(tmp_path), "train")
    packed.read(0)  # opens a map, which must not travel
    assert read_all(pickle.loads(pickle.dumps(packed))) == list(FILES.values())
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(packed.read, range(20)) == list(FILES.values())


def test_an_empty_split_and_empty_files_are_possible(tmp_path):
    with PackWriter(tmp_path, "none", 10):
        pass
    assert len(Packed(tmp_path, "none")) == 0 and Packed(tmp_path, "none").keys == []
    with PackWriter(tmp_path, "hollow", 10) as pack:
        pack.add("a", b"x")
        pack.add("b", b"")
    assert read_all(Packed(tmp_path, "hollow")) == [b"x", b""]


def test_a_key_with_a_line_break_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"line break"), PackWriter(tmp_path, "train", 10) as pack:
        pack.add("a\nb", b"")
