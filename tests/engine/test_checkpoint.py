import errno
from threading import Event

import pytest
import torch

from pipeline.config import ConfigError
from pipeline.engine import checkpoint
from pipeline.engine.checkpoint import CheckpointError, Writer, load_newest, save, stored


def state(step):
    return {"weights": torch.full((4,), float(step))}


def test_the_newest_two_are_kept(tmp_path):
    for step in (5, 10, 15):
        save(tmp_path, step, state(step))
    assert [path.name for path in stored(tmp_path)] == ["step-00000010.pt", "step-00000015.pt"]
    step, loaded = load_newest(tmp_path)
    assert step == 15 and torch.equal(loaded["weights"], state(15)["weights"])
    assert len(list(tmp_path.iterdir())) == 4  # two checkpoints, two seals, nothing else


def test_nothing_saved_is_nothing_to_load(tmp_path):
    assert load_newest(tmp_path) is None


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "cut short"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x"), "it was changed"),
        (lambda path: path.with_suffix(".json").unlink(), "seal"),
    ],
)
def test_a_damaged_one_is_said_and_passed_over(tmp_path, capsys, damage, complaint):
    save(tmp_path, 1, state(1))
    damage(save(tmp_path, 2, state(2)))
    assert load_newest(tmp_path)[0] == 1
    assert complaint in capsys.readouterr().out


def test_none_that_verifies_is_an_error_with_a_way_out(tmp_path):
    path = save(tmp_path, 1, state(1))
    path.write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="delete them to train from the start"):
        load_newest(tmp_path)


def test_a_full_disk_leaves_the_ones_before(tmp_path, monkeypatch):
    save(tmp_path, 1, state(1))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointError, match=r"No space left on device.*step-00000001.pt.*Free some space"):
        save(tmp_path, 2, state(2))
    assert load_newest(tmp_path)[0] == 1
    assert [path.name for path in tmp_path.iterdir() if "tmp" in path.name] == []


@pytest.mark.parametrize("moment", ["write_atomic", "sha256"])
def test_death_at_any_moment_of_saving_loses_nothing(tmp_path, monkeypatch, moment):
    save(tmp_path, 1, state(1))

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, moment, die)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 2, state(2))
    monkeypatch.undo()
    assert load_newest(tmp_path)[0] == 1


@pytest.fixture
def slow(monkeypatch):
    """Writing takes until `go` is set."""
    go, whole = Event(), checkpoint.save

    def waiting(*args):
        go.wait(60)
        return whole(*args)

    monkeypatch.setattr(checkpoint, "save", waiting)
    yield go
    go.set()


def test_what_is_written_is_what_there_was_when_it_was_asked_for(tmp_path, slow):
    writer, weights = Writer(tmp_path), torch.zeros(4)
    content = {"model": {"weights": weights}, "optimizer": {"state": {0: {"step": 1}}, "groups": [0.1, None]}}
    writer.save(1, content)
    weights += 1
    assert load_newest(tmp_path) is None, "the training goes on meanwhile"
    slow.set()
    writer.wait()
    step, found = load_newest(tmp_path)
    assert step == 1 and torch.equal(found["model"]["weights"], torch.zeros(4))
    assert found["optimizer"] == content["optimizer"]


def test_one_is_written_at_a_time_into_memory_that_is_kept(tmp_path):
    writer = Writer(tmp_path)
    places = set()
    for step in (1, 2, 3):
        writer.save(step, state(step))
        places.add(writer.copy["weights"].data_ptr())
    assert len(places) == 1 and load_newest(tmp_path)[0] >= 2
    writer.wait()
    assert load_newest(tmp_path)[1]["weights"].tolist() == [3.0] * 4
    writer.save(4, {"weights": torch.zeros(5)})
    writer.wait()
    assert len(load_newest(tmp_path)[1]["weights"]) == 5


def test_what_could_not_be_written_is_told_at_the_next_chance(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = Writer(tmp_path)
    monkeypatch.setattr(torch, "save", full)
    writer.save(1, state(1))
    with pytest.raises(CheckpointError, match="No space left on device"):
        writer.save(2, state(2))
    monkeypatch.undo()
    writer.save(2, state(2))
    writer.wait()
    assert load_newest(tmp_path)[0] == 2


def test_nothing_is_unpickled(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("owned",))

    save(tmp_path, 1, {"weights": Evil()})
    with pytest.raises(ConfigError, match=r"step-00000001.pt .*it asks for print, which is no tensor") as refused:
        load_newest(tmp_path)
    assert "weights_only" not in str(refused.value), "PyTorch's advice would run it"
