"""Sets of STEP files in their official layouts, and what of them is rejected by name."""

import json
import os
import pickle

import pytest
from OCP.BRepBuilderAPI import BRepBuilderAPI_NurbsConvert

from pipeline.config import ConfigError
from pipeline.data.brep import make, step
from pipeline.data.packed import Packed
from pipeline.data.solids import Parts
from pipeline.data.sources.solids import hardware, machined, step_files
from pipeline.data.sources.solids.step_files import FUSION_NAMES, MFCAD_NAMES, Options
from tests.data.brep.conftest import block, machined_file, machined_part  # noqa: F401
from tests.data.brep.dying import die
from tests.data.brep.test_graph import numbered, open_box, two_blocks

SAMPLED = {"num_reference": 200, "num_points": 32, "near_share": 0.4}


def prepare(root, layout, tmp_path, **changes):
    options = {"root": str(root), "layout": layout, "val_share": 0.34, "seed": 0, "max_faces": 200,
               "max_face_edges": 60, "expect": None, "max_reject_share": 0.0, "num_workers": 1, "shard_mib": 1,
               **SAMPLED, **changes}  # fmt: skip
    (tmp_path / "set/files").mkdir(parents=True, exist_ok=True)
    return step_files.prepare(Options(**options), tmp_path / "work", tmp_path / "set/files")


@pytest.fixture(autouse=True)
def near(monkeypatch):
    """Files are read in this process: that they can be in another is tested once."""
    monkeypatch.setattr(step_files, "Apart", Near)


class Near:
    def __init__(self, function, seconds):
        self.function = function

    def __call__(self, *args):
        return self.function(*args)

    def close(self):
        pass


@pytest.fixture
def mfcad(tmp_path):
    """Three blocks, whose faces' names are places in a list, not in the order of the file."""
    folder = tmp_path / "mfcad/dataset/step"
    folder.mkdir(parents=True)
    for number in range(3):
        data = numbered(block(10.0, 3.0 + number))
        data = data.replace(b"ADVANCED_FACE('0'", b"ADVANCED_FACE('6'")  # a list may be longer than the part
        (folder / f"0-{number}-19.step").write_bytes(data)
        (folder / f"0-{number}-19.face_truth").write_bytes(pickle.dumps([9, 1, 15, 15, 15, 15, 0], protocol=2))
    return tmp_path / "mfcad"


def test_mfcad(mfcad, tmp_path):
    data = prepare(mfcad, "mfcad", tmp_path)
    assert {name: split["count"] for name, split in data["splits"].items()} == {"train": 2, "val": 1}
    assert data["classes"] == list(MFCAD_NAMES) and data["rejects"]["count"] == 0
    parts = Parts(tmp_path / "set", "train")
    assert parts.part(0)["labels"].tolist() == [0, 1, 15, 15, 15, 15] and parts.labels.tolist() == [-1, -1]
    again = Packed(tmp_path / "set/files", "train")
    first = [again.read(place) for place in range(2)]
    prepare(mfcad, "mfcad", tmp_path)
    assert [Packed(tmp_path / "set/files", "train").read(place) for place in range(2)] == first


def test_fusion_360_gallery(tmp_path):
    root = tmp_path / "s2.0.0"
    for folder in ("breps/step", "breps/seg"):
        (root / folder).mkdir(parents=True)
    for name, suffix in (("a", "stp"), ("b", "step"), ("c", "stp")):
        (root / f"breps/step/{name}.{suffix}").write_bytes(numbered(block()))
        (root / f"breps/seg/{name}.seg").write_text("0\n1\n2\n3\n4\n7\n")
    (root / "train_test.json").write_text(json.dumps({"train": ["a", "b"], "test": ["c"]}))
    data = prepare(root, "fusion360", tmp_path, expect={"train": 2, "val": 1, "classes": 8})
    assert data["classes"] == list(FUSION_NAMES)
    assert Parts(tmp_path / "set", "val").part(0)["labels"].tolist() == [0, 1, 2, 3, 4, 7]
    assert Packed(tmp_path / "set/files", "train").keys == ["breps/step/a.stp", "breps/step/b.step"]


def test_fabwave(tmp_path):
    root = tmp_path / "fabwave"
    for name, place in (("Gears", "STEP"), ("Washers", "")):
        (root / name / place).mkdir(parents=True)
        for number in range(3):
            (root / name / place / f"{number}.STP").write_bytes(numbered(block(10.0, 2.0 + number)))
    (root / "Readme").mkdir()
    data = prepare(root, "fabwave", tmp_path)
    assert data["classes"] == ["Gears", "Washers"] and data["splits"] == {"train": {"count": 4}, "val": {"count": 2}}
    parts = Parts(tmp_path / "set", "train")
    assert parts.labels.tolist() == [0, 0, 1, 1] and parts.classes == ["Gears", "Washers"] and not parts.face_classes
    assert parts.part(0)["labels"].tolist() == [-1] * 6


class Wrong:
    def __reduce__(self):
        return (os.getcwd, ())


def test_what_is_broken_is_rejected_by_name_and_counted(mfcad, tmp_path):
    folder = mfcad / "dataset/step"
    truth = pickle.dumps([15] * 7, protocol=2)
    broken = {
        "empty": (b"", truth), "cut": (numbered(block())[:5000], truth), "bodies": (numbered(two_blocks()), truth),
        "open": (numbered(open_box()), truth), "unlabelled": (numbered(block()), None),
        "pickled": (numbered(block()), pickle.dumps(Wrong())), "short": (numbered(block()), pickle.dumps([1, 2])),
        "beyond": (numbered(block()), pickle.dumps([16] * 7)), "words": (numbered(block()), pickle.dumps(["x"] * 7)),
    }  # fmt: skip
    for name, (data, labels) in broken.items():
        (folder / f"{name}.step").write_bytes(data)
        if labels is not None:
            (folder / f"{name}.face_truth").write_bytes(labels)
    data = prepare(mfcad, "mfcad", tmp_path, max_reject_share=1.0)
    assert sum(split["count"] for split in data["splits"].values()) == 3
    reasons = {found["file"].split("/")[-1].split(".")[0]: found["reason"] for found in data["rejects"]["first"]}
    assert set(reasons) == set(broken)
    told = {"empty": "it is empty", "cut": "cut off", "bodies": "2 solid bodies", "open": "0 solid bodies",
            "unlabelled": "No such file",
            "pickled": "expected a list of numbers", "short": "labels cannot be read",
            "beyond": "a label is 16; expected 0 to 15",
            "words": "no whole numbers"}  # fmt: skip
    for name, words in told.items():
        assert words in reasons[name], (name, reasons[name])
    with pytest.raises(ConfigError, match=r"9 of 12 files in .* cannot be used, more than max_reject_share 0.0"):
        prepare(mfcad, "mfcad", tmp_path / "again")


def test_bombs_are_rejects_and_unknown_surfaces_are_noted(mfcad, tmp_path, monkeypatch):
    folder = mfcad / "dataset/step"
    truth = pickle.dumps([15] * 7, protocol=2)
    tube = BRepBuilderAPI_NurbsConvert(make.revolved(make.WORLD, [(1, 0), (2, 0), (2, 3), (1, 3)])).Shape()
    for name, data in {"bytes": numbered(block()).ljust(60_000), "entities": numbered(two_blocks()),
                       "splines": numbered(tube)}.items():  # fmt: skip
        (folder / f"{name}.step").write_bytes(data)
        (folder / f"{name}.face_truth").write_bytes(truth)
    for module in (step, step_files):  # what is read of a file, and what is read as STEP
        monkeypatch.setattr(module, "MOST_BYTES", 59_000)
    monkeypatch.setattr(step, "MOST_ENTITIES", numbered(block()).count(b" = ") + 200)
    data = prepare(mfcad, "mfcad", tmp_path, max_reject_share=1.0)
    assert sum(split["count"] for split in data["splits"].values()) == 4
    reasons = {found["file"].split("/")[-1]: found["reason"] for found in data["rejects"]["first"]}
    assert set(reasons) == {"bytes.step", "entities.step"}
    assert "60,000 bytes" in reasons["bytes.step"] and "entities; expected at most" in reasons["entities.step"]
    [note] = data["notes"]["first"]
    assert note == {"file": "dataset/step/splines.step",
                    "note": "4 faces on surfaces of other kinds, of which encoders see nothing"}  # fmt: skip


def test_a_file_on_which_opencascade_crashes_is_a_reject(mfcad, tmp_path, monkeypatch):
    from pipeline.data.apart import Apart

    monkeypatch.setattr(step_files, "Apart", Apart)
    monkeypatch.setattr(step_files, "read_part", die)
    for path in list((mfcad / "dataset/step").glob("*[12]-19.*")):
        path.unlink()
    (mfcad / "dataset/step/1.step").write_bytes(numbered(block()))
    with pytest.raises(ConfigError, match=r"its reader crashed \(signal 11\)"):
        prepare(mfcad, "mfcad", tmp_path)


@pytest.mark.parametrize(
    ("layout", "changes", "told"),
    [
        ("abc", {}, r"layout is 'abc'; available: \['fabwave', 'fusion360', 'mfcad'\]"),
        ("fusion360", {}, r"lacks train_test.json, breps/step, breps/seg; it holds dataset"),
        ("mfcad", {"num_reference": 10}, "num_reference is 10; expected at least num_points, 32"),
        ("mfcad", {"expect": {"train": 13940}}, r"holds 2 train \(expected 13,940\)"),
        ("mfcad", {"root": "nowhere"}, "which is not a folder. Expected: dataset/step"),
    ],
)
def test_a_wrong_root_is_told_with_what_is_expected(mfcad, tmp_path, layout, changes, told):
    with pytest.raises(ConfigError, match=told):
        prepare(changes.pop("root", mfcad), layout, tmp_path, **changes)


def test_a_list_that_is_no_list(tmp_path):
    for folder in ("breps/step", "breps/seg"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a").write_text("")
    (tmp_path / "train_test.json").write_text("[1")
    with pytest.raises(ConfigError, match="no object with the lists train and test"):
        prepare(tmp_path, "fusion360", tmp_path)


def test_made_parts_have_the_features_that_their_names_say(tmp_path):
    options = machined.Options(parts=6, features=(1, 2), kinds=None, val_share=0.34, num_workers=1, seed=1, **SAMPLED)
    (tmp_path / "files").mkdir()
    data = machined.prepare(options, tmp_path / "work", tmp_path / "files")
    assert {name: split["count"] for name, split in data["splits"].items()} == {"train": 4, "val": 2}
    for split in ("train", "val"):
        parts = Parts(tmp_path, split)
        for index, key in enumerate(parts.packed.keys):
            chosen = list(map(int, key.split("/")[-1].removesuffix(".step").split("-")))
            labels = parts.part(index)["labels"].tolist()
            assert len(labels) - labels.count(machined.STOCK) == sum(machined.FEATURES[kind].faces for kind in chosen)
            assert set(labels) - {machined.STOCK} == set(chosen)
    with pytest.raises(ConfigError, match=r"parts is 900, and \d+ parts of 1 to 1 features could be made"):
        machined.write(machined.Options(**{**vars(options), "parts": 900, "features": (1, 1)}), tmp_path / "more")
    with pytest.raises(ConfigError, match="kinds names 'stock'; available: chamfer, "):
        machined.Options(**{**vars(options), "kinds": ("stock",)})


def test_hardware_is_of_its_classes(tmp_path):
    options = hardware.Options(parts_per_class=2, val_share=0.5, num_workers=1, seed=0, **SAMPLED)
    (tmp_path / "files").mkdir()
    data = hardware.prepare(options, tmp_path / "work", tmp_path / "files")
    assert data["classes"] == sorted(hardware.CLASSES) and data["splits"]["val"]["count"] == len(hardware.CLASSES)
    kinds = Parts(tmp_path, "train").part(data["classes"].index("seal"))["faces"]
    assert kinds[:, 4].sum() == len(kinds), "a torus"
