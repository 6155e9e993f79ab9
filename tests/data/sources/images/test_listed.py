"""Images and labels listed in CSV files."""

import csv

import pytest

from pipeline.config import ConfigError
from pipeline.data.packed import Packed
from pipeline.data.sources.images.listed import prepare
from tests.data.sources.conftest import noise

TRAIN = [("a/1.jpg", "wren"), ("a/2.jpg", "finch"), ("b/3.png", "wren, winter")]
VAL = [("b/4.jpg", "finch")]


def write(path, rows, head=("path", "photographer", "label")):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows((name, "anon", label)[: len(head)] for name, label in rows)


@pytest.fixture
def birds(tmp_path):
    root = tmp_path / "birds"
    for number, (name, _) in enumerate(TRAIN + VAL):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        noise(number).save(root / name)
    write(root / "train.csv", TRAIN)
    write(root / "val.csv", VAL)
    return root


def test_packs_what_is_listed_under_the_labels_in_sorted_order(birds, options, tmp_path):
    noise(9).save(birds / "unlisted.jpg")
    data = prepare(options(birds, expect={"train": 3, "val": 1, "classes": 3}), tmp_path, tmp_path / "files")
    assert data["classes"] == ["finch", "wren", "wren, winter"]
    assert data["splits"] == {"train": {"count": 3}, "val": {"count": 1}}
    train = Packed(tmp_path / "files", "train")
    assert (list(train.keys), list(train.labels)) == ([name for name, _ in TRAIN], [1, 0, 2])
    assert train.read(0) == (birds / "a/1.jpg").read_bytes()


def test_a_list_may_come_from_excel(birds, options, tmp_path):
    plain = (birds / "val.csv").read_text()
    (birds / "val.csv").write_text("\ufeff" + plain.replace("\n", "\r\n"))
    assert prepare(options(birds), tmp_path, tmp_path / "files")["splits"]["val"] == {"count": 1}


def test_files_that_cannot_be_had_are_rejected_by_name(birds, options, tmp_path):
    (birds / "a/2.jpg").unlink()
    write(birds / "val.csv", [*VAL, ("../birds-of-others.jpg", "finch")])
    noise(1).save(tmp_path / "birds-of-others.jpg")
    data = prepare(options(birds, max_reject_share=0.5), tmp_path, tmp_path / "files")
    assert [reject["file"] for reject in data["rejects"]["first"]] == ["a/2.jpg", "../birds-of-others.jpg"]
    assert "out of the data set's folder" in data["rejects"]["first"][1]["reason"]


@pytest.mark.parametrize(
    ("name", "rows", "head", "message"),
    [
        ("train.csv", TRAIN, ("file", "by", "label"), "lacks the column path; its first line names file, by, label"),
        ("train.csv", [("a/1.jpg", "")], ("path", "by", "label"), "line 2 has no label"),
        ("train.csv", [("", "wren")], ("path", "by", "label"), "line 2 has no path"),
        ("train.csv", [*TRAIN, TRAIN[0]], ("path", "by", "label"), "line 5 lists a/1.jpg again"),
        ("train.csv", [], ("path", "by", "label"), "train.csv lists no image"),
        ("val.csv", [("b/4.jpg", "owl")], ("path", "by", "label"), "labels that train.csv lacks: owl"),
    ],
)
def test_wrong_lists_are_explained(birds, options, tmp_path, name, rows, head, message):
    write(birds / name, rows, head)
    with pytest.raises(ConfigError, match=message):
        prepare(options(birds), tmp_path, tmp_path / "files")


@pytest.mark.parametrize("content", ["", 'path,label\n"a/1.jpg,wren\n', "path,label\na/1.jpg\n"])
def test_broken_lists_are_explained(birds, options, tmp_path, content):
    (birds / "train.csv").write_text(content)
    with pytest.raises(ConfigError, match=r"train\.csv"):
        prepare(options(birds), tmp_path, tmp_path / "files")
