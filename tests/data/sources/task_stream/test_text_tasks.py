"""Streams from the layouts of WebNLP and GLUE: what is read, drawn and held out, and what is refused."""

import csv
import json

import numpy as np
import pytest

from pipeline.config import ConfigError
from pipeline.data.kinds.text import Texts
from pipeline.data.packed import Packed
from pipeline.data.sources.task_stream.text_tasks import Options, parse_csv, prepare

USUAL = {"per_class": 3, "val_share": None, "vectors": None, "vector_width": 4, "vocabulary_size": 100, "seed": 0,
         "expect": None, "max_reject_share": 0.0, "num_workers": 1, "shard_mib": 1}  # fmt: skip
GLUE = {"tasks": ("rte", "cola", "mnli"), "per_class": None, "val_share": 0.25}


def options(root, layout="webnlp", **changes):
    return Options(**{"root": str(root), "layout": layout, "tasks": ("yelp", "ag"), **USUAL, **changes})


@pytest.fixture
def webnlp(tmp_path):
    root = tmp_path / "webnlp"
    for task, classes, columns in (("ag", 2, 3), ("yelp", 3, 2)):
        (root / task).mkdir(parents=True)
        for split, count in (("train", 8), ("test", 2)):
            rows = [[label, *[f"{task}title"] * (columns - 2), f"The {task}{label}, {split}{number}"]
                    for number in range(count) for label in range(1, classes + 1)]  # fmt: skip
            with open(root / task / f"{split}.csv", "w") as file:
                csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    return root


@pytest.fixture
def glue(tmp_path):
    root = tmp_path / "glue"
    parts = {"train": range(8), "dev": range(2), "dev_matched": range(2)}
    columns = {
        "RTE": ["index", "sentence1", "sentence2", "label"],
        "MNLI": ["index", "sentence1", "sentence2", "label1", "gold_label"],
    }
    labels = {
        "RTE": ["entailment", "not_entailment"],
        "CoLA": ["0", "1"],
        "MNLI": ["neutral", "entailment", "contradiction"],
    }
    for folder, own in labels.items():
        (root / folder).mkdir(parents=True)
        for name, numbers in parts.items():
            rows = [columns[folder]] if folder in columns else []
            for number in numbers:
                for label in own:
                    row = {"RTE": [str(number), f'He "said {label}', "So?", label],
                           "CoLA": ["gj04", label, "", f"good {label}"],
                           "MNLI": [str(number), f"a {label}", f"b {name}", "noise", label]}[folder]  # fmt: skip
                    rows.append(row)
            (root / folder / f"{name}.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))
    return root


def texts_of(files, split):
    packed = Packed(files, split)
    return [json.loads(packed.read(place)) for place in range(len(packed))]


def made(wanted, tmp_path, name="files"):
    files = tmp_path / name / "files"
    files.mkdir(parents=True)
    return prepare(wanted, tmp_path / name / "work", files), files


def test_webnlp_is_a_task_for_each_folder_in_the_order_that_is_said(webnlp, tmp_path):
    data, files = made(options(webnlp), tmp_path)
    assert data["splits"] == {"train": {"count": 15}, "val": {"count": 15}, "test": {"count": 10}}
    assert data["classes"] == ["ag: 1", "ag: 2", "yelp: 1", "yelp: 2", "yelp: 3"] and data["tasks"] == 2
    assert json.loads((files / "classes.json").read_text()) == data["classes"]
    stream = json.loads((files / "stream.json").read_text())
    assert [(task["name"], task["classes"]) for task in stream] == [("yelp", [2, 3, 4]), ("ag", [0, 1])]
    for text in texts_of(files, "test"):
        task, label = text["labels"][0].split(": ")
        assert text["tokens"][:3] == ["the", f"{task}{label}", ","], "the text, not its title, in small letters"
    assert Texts(files.parent, "test", {"context": 0, "length": 4}).classes == data["classes"]


def test_splits_share_no_text_and_are_drawn_by_seed(webnlp, tmp_path):
    kept = {}
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        _, files = made(options(webnlp, seed=seed), tmp_path, name)
        kept[name] = (
            [Packed(files, split).keys for split in ("train", "val", "test")],
            (files / "vectors.npy").read_bytes(),
        )
    assert kept["first"] == kept["again"]
    assert kept["first"][0][0] != kept["other"][0][0] and kept["first"][1] != kept["other"][1]
    keys = kept["first"][0]
    assert len(set().union(*keys)) == sum(map(len, keys))


def test_glue_takes_columns_by_name_and_development_files_as_test(glue, tmp_path):
    data, files = made(options(glue, "glue", **GLUE), tmp_path)
    assert data["splits"] == {"train": {"count": 42}, "val": {"count": 14}, "test": {"count": 14}}
    tokens = {text["labels"][0]: " ".join(text["tokens"]) for text in texts_of(files, "test")}
    assert tokens["rte: entailment"] == 'he " said entailment | so ?' and tokens["cola: 1"] == "good 1"
    assert tokens["mnli: neutral"] == "a neutral | b dev_matched"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('"1","title","A\\nB ""c"""', ("1", 'A B "c"', [])),
        ('"1","A"', ("1", "A", [])),
        ('"1","title",""', ("1", "title", ["no text in the third column; the second is taken"])),
        ('"1","title","text","best"', ("1", "text", [])),
    ],
)
def test_a_row_of_csv_has_its_text_in_the_third_column(line, told):
    assert parse_csv(f"{line}\n") == told


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'"1","title","open', "no row of CSV"),
        (b'"1"', "1 columns; expected label, title and text"),
        (b'"one","title","text"', "the label is 'one'; expected a whole number"),
        (b'"1","title","\xff"', "no text in UTF-8"),
        (b'"1","",""', "no tokens"),
        (b'"9","title","text"', r"the label is '9'; expected one of \['1', '2'\]"),
    ],
)
def test_rows_that_cannot_be_used_are_counted_by_name(webnlp, tmp_path, line, reason):
    with open(webnlp / "ag/test.csv", "ab") as file:
        file.write(line + b"\n")
    with pytest.raises(ConfigError, match=rf"1 of 41 files .*ag/test\.csv, line 5 \({reason}"):
        made(options(webnlp), tmp_path)
    data, _ = made(options(webnlp, max_reject_share=0.1), tmp_path, "again")
    assert data["rejects"]["count"] == 1 and data["splits"]["test"] == {"count": 10}


def test_a_broken_training_row_is_a_reject_and_no_class(webnlp, glue, tmp_path):
    with open(webnlp / "ag/train.csv", "ab") as file:
        file.write(b"broken\n")
    data, _ = made(options(webnlp, max_reject_share=0.1), tmp_path)
    assert data["rejects"]["first"][0]["file"] == "ag/train.csv, line 17" and len(data["classes"]) == 5
    with open(glue / "RTE/train.tsv", "a") as file:
        file.write("9\tone\tentailment\n9\t\ttwo\tentailment\n9\tone\ttwo\tmaybe\n")
    data, _ = made(options(glue, "glue", **GLUE, max_reject_share=0.1), tmp_path, "glue-made")
    reasons = sorted(reject["reason"] for reject in data["rejects"]["first"])
    assert len(data["classes"]) == 7 and [reason[:10] for reason in reasons] == [
        "3 columns;",
        "no tokens",
        "the label ",
    ]


@pytest.mark.parametrize(
    ("layout", "changes", "words"),
    [
        ("webnlp", {"tasks": ("ag", "cola")}, r"tasks names \['cola'\], which webnlp .* available: \['ag', 'yelp'\]"),
        ("webnlp", {"tasks": ("ag", "ag")}, r"tasks is \['ag', 'ag'\]; expected at least one, each once"),
        ("webnlp", {"tasks": ()}, r"tasks is \[\]; expected at least one"),
        (
            "webnlp",
            {"per_class": 5},
            "per_class is 5, and 'yelp' has 8 training texts of the class '1'; expected at least 10",
        ),
        ("webnlp", {"val_share": 0.1}, "per_class is 3 and val_share is 0.1; expected one of them"),
        ("webnlp", {"per_class": None}, "per_class is None and val_share is None; expected one of them"),
        ("webnlp", {"expect": {"classes": 38}}, r"5 classes \(expected 38\)"),
        ("glue", GLUE | {"tasks": ("rte", "ag")}, r"tasks names \['ag'\], which glue .* available: \['cola', 'sst2'"),
        (
            "glue",
            GLUE | {"tasks": ("sst2",)},
            r"lacks SST-2/train.tsv, SST-2/dev.tsv; .* Expected: the folders of gluebench",
        ),
        ("glue", GLUE | {"val_share": 0.01}, "val_share is 0.01, and 'rte' has 8 training texts .* some on both sides"),
    ],
)
def test_a_stream_that_cannot_be_is_one_error(webnlp, glue, tmp_path, layout, changes, words):
    with pytest.raises(ConfigError, match=words):
        made(options({"webnlp": webnlp, "glue": glue}[layout], layout, **changes), tmp_path)


def test_a_task_of_one_class_or_without_a_column_is_one_error(webnlp, glue, tmp_path):
    (webnlp / "ag/train.csv").write_text('"1","t","x"\n' * 8)
    with pytest.raises(ConfigError, match=r"ag/train\.csv has the labels \['1'\]; expected two or more"):
        made(options(webnlp), tmp_path)
    path = glue / "RTE/train.tsv"
    path.write_text(path.read_text().replace("sentence2", "other", 1))
    with pytest.raises(ConfigError, match=r"RTE/train\.tsv cannot be read .*expected \['sentence2'\] among them"):
        made(options(glue, "glue", **GLUE), tmp_path, "glue-made")


@pytest.mark.parametrize("header", ["", "4 4\n"], ids=["GloVe", "FastText"])
def test_vectors_are_those_of_a_file(webnlp, tmp_path, header):
    path = tmp_path / "vectors.txt"
    path.write_text(f"{header}absent 9 9 9 9\nthe 1 2 3.5 -4\nag1 0 1 0 1\nthe 7 7 7 7\n")
    data, files = made(options(webnlp, vectors=str(path)), tmp_path)
    table, words = np.load(files / "vectors.npy"), json.loads((files / "words.json").read_text())
    assert data["vectors"] == {"width": 4, "file": str(path), "words": 2}
    assert table.shape == (len(words) + 2, 4) and table[2 + words.index("the")].tolist() == [1, 2, 3.5, -4]
    assert table[2 + words.index("ag1")].tolist() == [0, 1, 0, 1] and np.count_nonzero(table.any(axis=1)) == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"the 1 2 3\n", r"line 1, has 3 numbers; expected vector_width, 4; set it to that"),
        (b"other 1\nthe 1 2 three 4\n", r"line 2, has what is no number"),
        (b"the 1 2 nan 4\n", r"line 1, has what is no number"),
        (b"\xff 1 2 3 4\n", r"has none of the \d+ words, such as \["),
        (None, r"vectors\.txt', which cannot be read \(No such file"),
    ],
)
def test_a_file_of_other_vectors_is_one_error(webnlp, tmp_path, content, words):
    path = tmp_path / "vectors.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        made(options(webnlp, vectors=str(path)), tmp_path)
