"""Bits that flip and files that are cut off, in every kind of file that a stage reads: none goes unnoticed.

pytest -m slow tests/test_flips.py        two hundred tries of each kind of damage
"""

import json
import random
import re
from pathlib import Path

import pytest

from pipeline import manifest
from pipeline.cell import Cell
from pipeline.data.journal import Journal
from pipeline.data.packed import PackWriter
from pipeline.manifest import ManifestError
from tests.small import cell as cell_of
from tests.small import load, taught, write_study

KINDS = {
    "prepare": ("train-00000.bin", "train.index.npz", "classes.json", "annotations/train.json", "findings.json"),
    "pretrain": ("encoder.safetensors", "method.safetensors", "optimizer.pt", "log.jsonl", "pictures.png"),
}


def cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def flip(content: bytes, rng: random.Random) -> bytes:
    place, changed = rng.randrange(len(content)), bytearray(content)
    changed[place] ^= 1 << rng.randrange(8)
    return bytes(changed)


def times(number: int) -> list:
    """Each kind of damage a few times, and `number` times when the slow tests are wanted."""
    return [
        pytest.param(damage, count, id=f"{damage.__name__}-{count}", marks=[pytest.mark.slow] * (count == number))
        for damage in (cut, flip)
        for count in (12, number)
    ]


@pytest.fixture
def cell(project) -> Cell:
    """A pretraining whose data and teacher are published, with files of every kind."""
    write_study(project, taught(project, "random"))
    study, rng = load(), random.Random(0)
    for stage, run, seed in (("prepare", "digits", None), ("pretrain", "random", 1)):
        made = cell_of(study, stage, run, seed)
        for name in KINDS[stage]:
            (made.files / name).parent.mkdir(exist_ok=True)
            (made.files / name).write_bytes(rng.randbytes(300))
        made.publish(cost={"seconds": 1.0}, data={"classes": ["zero", "one"]})
    return cell_of(study, "pretrain", "mae", 1)


@pytest.mark.parametrize(("damage", "count"), times(200))
def test_every_file_that_a_manifest_names_and_itself(cell, damage, count):
    rng = random.Random()
    files = [path for folder in cell.node.inputs.values() for path in folder.rglob("*") if path.is_file()]
    expected = {part: manifest.read(folder / "manifest.json") for part, folder in cell.node.inputs.items()}
    assert len(files) == 14
    for number in range(count):
        path = files[number % len(files)]
        whole = path.read_bytes()
        path.write_bytes(damage(whole, rng))
        try:
            assert Cell(cell.node).inputs
        except ManifestError as error:
            assert str(path) in str(error)
        else:  # what only spares a reading may be spoilt; and so may the name of the seal, where all else is as it was
            assert path.name in (manifest.VERIFIED, manifest.NAME), path
            for part, folder in cell.node.inputs.items():
                found = manifest.read(folder / "manifest.json")
                assert {**found, "seal": None}.items() >= {**expected[part], "seal": None}.items()
        path.write_bytes(whole)
        assert Cell(cell.node).inputs


@pytest.mark.parametrize(("damage", "count"), times(200))
def test_a_journal_is_believed_up_to_its_first_broken_line(tmp_path, damage, count):
    rng = random.Random()
    with PackWriter(tmp_path, "train", 200) as pack:
        book = Journal(tmp_path / "train.jsonl", (pack,), "abcdefgh")
        book.go_on([])
        for name in "abcdefgh":
            pack.add(name, name.encode() * 50, label=ord(name))
            book.add({"count": 1, "rejects": [], "notes": []})
        book.close()
    blocks, whole = book.read(), book.path.read_bytes()
    assert len(blocks) == 8
    for _ in range(count):
        book.path.write_bytes(damage(whole, rng))
        found = book.read()
        assert found == blocks[: len(found)]
        assert len(found) < 8 or book.path.read_bytes() == whole[:-1], "only the last line's end may be missing"


@pytest.mark.parametrize(("damage", "count"), times(200))
def test_a_checkpoint_or_its_seal(tmp_path, damage, count, capsys):
    import torch

    from pipeline.engine.checkpoint import load_newest, save

    rng = random.Random()
    save(tmp_path, 1, {"weights": torch.zeros(4)})
    path = save(tmp_path, 2, {"weights": torch.ones(4)})
    for number in range(count):
        spoilt = path if number % 2 else path.with_suffix(".json")
        whole = spoilt.read_bytes()
        spoilt.write_bytes(damage(whole, rng))
        assert load_newest(tmp_path)[0] == 1
        assert re.search(rf"{path} is not used", capsys.readouterr().out)
        spoilt.write_bytes(whole)


def test_an_exchanged_encoder_is_named(cell):
    folders = cell.node.inputs["teacher"], Path("elsewhere")
    other = cell_of(load(), "pretrain", "random", 0)
    (other.files / "encoder.safetensors").write_bytes(b"x" * 300)
    other.publish()
    encoder = folders[0] / "files/encoder.safetensors"
    encoder.write_bytes((other.folder / "files/encoder.safetensors").read_bytes())
    with pytest.raises(ManifestError, match=f"{encoder} has sha256 .* it was changed"):
        assert cell.inputs
    assert json.loads((folders[0] / "manifest.json").read_text())["stage"] == "pretrain"
