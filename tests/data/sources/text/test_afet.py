"""Mentions in AFET's layouts: what is wrong in them is rejected by name, what is odd is noted, nothing else is lost."""

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from pipeline.config import ConfigError
from pipeline.data.kinds import text
from pipeline.data.packed import Packed
from pipeline.data.sources.text import afet, typed_mentions
from pipeline.data.texts import read_labels, read_split
from tests.methods import recipe

USUAL = {"layout": "figer", "train_file": "train.json", "types": None, "val_from": "train", "val_share": 0.0,
         "vocabulary_size": 100, "expect": None, "max_reject_share": 1.0, "num_workers": 2, "shard_mib": 1,
         "seed": 0}  # fmt: skip
MADE = {"train_items": 400, "val_items": 30, "test_items": 50, "zipf": 1.0, "two_share": 0.3, "context": 6,
        "own_share": 0.4, "sibling_share": 0.3, "words_per_leaf": 8, "noise_words": 50, "vocabulary_size": 200,
        "seed": 0}  # fmt: skip
GOOD = {"start": 1, "end": 3, "labels": ["/person", "/person/artist"]}


def sentence(*mentions, tokens=("Then", "Ella", "Fitzgerald", "sang", ".")):
    return json.dumps({"tokens": list(tokens), "mentions": list(mentions), "senid": 0, "fileid": "a"}).encode()


@pytest.fixture
def prepare(tmp_path):
    """From the lines of each file to the manifest's data; a split that is not given has one good mention."""

    def run(changes=None, **lines):
        root = tmp_path / "root"
        root.mkdir(exist_ok=True)
        for name in ("train", "dev", "test"):
            if lines.get(name, []) is not None:
                (root / f"{name}.json").write_bytes(b"\n".join(lines.get(name, [sentence(GOOD)])) + b"\n")
        options = afet.Options(**USUAL | {"root": str(root)} | (changes or {}))
        shutil.rmtree(tmp_path / "files", ignore_errors=True)
        (tmp_path / "files").mkdir()
        return afet.prepare(options, Path(tempfile.mkdtemp(dir=tmp_path)), tmp_path / "files")

    return run


def reasons(told):
    return {found["file"]: found["reason"] for found in told["rejects"]["first"]}


WRONG = [
    (sentence({"start": -1, "end": -1, "labels": ["/person"]}), "the mention is tokens -1 to -1 of 5"),
    (sentence({"start": 3, "end": 6, "labels": ["/person"]}), "the mention is tokens 3 to 6 of 5"),
    (sentence({"start": 2, "end": 2, "labels": ["/person"]}), "the mention is tokens 2 to 2 of 5"),
    (sentence({"start": True, "end": 2, "labels": ["/person"]}), "no start, end and labels"),
    (sentence({"start": 1, "end": 2, "labels": []}), "no type or topic"),
    (sentence({"start": 1, "end": 2}), "no start, end and labels"),
    (sentence({"start": 1, "end": 2, "labels": ["person"]}), "'person' is no path such as /person/artist"),
    (sentence({"start": 1, "end": 2, "labels": ["/person//artist"]}), "no path"),
    (sentence({"start": 1, "end": 2, "labels": [7]}), "'7' is no path"),
    (sentence("mention"), "no start, end and labels"),
    (sentence(GOOD, tokens=("Ella", "", "sang", "x")), "a token is no text"),
    (sentence(GOOD, tokens=("Ella", "\ud800", "sang", "x")), "no text in UTF-8"),
    (sentence(GOOD).replace(b"Ella", b"Ell\xe4"), "no text in UTF-8 (invalid continuation byte at byte"),
    (b"[1, 2]", "no object with lists of tokens and mentions"),
    (b'{"tokens": []', "no JSON"),
    (b"[" * 100_000, "no JSON"),
]


@pytest.mark.parametrize(("line", "reason"), WRONG, ids=[reason for _, reason in WRONG])
def test_a_mention_that_cannot_be_is_a_reject_by_name_and_the_others_stay(prepare, line, reason):
    told = prepare(train=[sentence(GOOD), line, b"", sentence(GOOD, GOOD)])
    assert told["splits"]["train"] == {"count": 3} and told["rejects"]["count"] == 1
    ((name, found),) = reasons(told).items()
    assert name == "train.json, line 2, mention 1" and reason in found


def test_one_bad_mention_of_a_sentence_leaves_the_others(prepare, tmp_path):
    told = prepare(train=[sentence(GOOD, {"start": 9, "end": 10, "labels": ["/person"]}, {**GOOD, "end": 2})])
    assert list(reasons(told)) == ["train.json, line 1, mention 2"] and told["splits"]["train"]["count"] == 2
    spans = [json.loads(Packed(tmp_path / "files", "train").read(place))["end"] for place in range(2)]
    assert spans == [3, 2]


def test_types_outside_the_hierarchy_are_rejects(prepare, tmp_path):
    (tmp_path / "types.txt").write_text("/person\n/person/artist\n/location\n\n")
    outside = {**GOOD, "labels": ["/person", "/person/wizard"]}
    told = prepare({"types": str(tmp_path / "types.txt")}, train=[sentence(GOOD), sentence(outside)])
    assert list(reasons(told).values()) == ["the type '/person/wizard' is outside the hierarchy"]
    assert told["classes"] == ["/location", "/person", "/person/artist"], "all that there are, met or not"


@pytest.mark.parametrize("content", [b"person\n", b"/person\n/a b\n", b"/person\n\xff\n"])
def test_a_file_of_types_that_is_none(prepare, tmp_path, content):
    (tmp_path / "types.txt").write_bytes(content)
    with pytest.raises(ConfigError, match=r"types\.txt.*(expected a type a line|no text in UTF-8)"):
        prepare({"types": str(tmp_path / "types.txt")})
    with pytest.raises(ConfigError, match="there is no such file; expected a type a line"):
        prepare({"types": str(tmp_path / "absent.txt")})


def test_labels_of_test_that_training_has_not_stay_and_are_counted(prepare, tmp_path):
    told = prepare(
        test=[sentence(GOOD), sentence({**GOOD, "labels": ["/place"]}), sentence({**GOOD, "labels": ["/person"]})]
    )
    assert told["unseen"] == {"labels": {"count": 1, "first": ["/place"]}, "sets": {"val": 0, "test": 2}}
    assert told["splits"]["test"]["count"] == 3 and read_labels(tmp_path / "files").counts.tolist() == [1, 1, 0]


def test_bbn_s_two_names_are_one(prepare):
    old, new = ({**GOOD, "labels": [f"/{name}/BRIDGE"]} for name in ("FAC", "FACILITY"))
    told = prepare({"layout": "bbn"}, train=[sentence(new)], dev=[sentence(new)], test=[sentence(old)])
    assert told["classes"] == ["/FACILITY/BRIDGE"] and told["unseen"]["labels"]["count"] == 0
    assert {"file": "test.json, line 1, mention 1", "note": "an old name of a type, replaced"} in told["notes"]["first"]
    assert sum("without its parent /FACILITY" in found["note"] for found in told["notes"]["first"]) == 3
    assert prepare(train=[sentence(new)], test=[sentence(old)])["classes"] != ["/FACILITY/BRIDGE"], "of BBN alone"


def test_validation_is_held_out_by_sentence_where_there_is_none(prepare, tmp_path):
    lines = [sentence(GOOD, GOOD) for _ in range(200)]
    with pytest.raises(ConfigError, match=r"val_share is 0, and .* has no dev\.json; expected a share of train"):
        prepare(train=lines, dev=None)
    told = prepare({"val_share": 0.2}, train=lines, dev=None)
    assert told["splits"]["train"]["count"] + told["splits"]["val"]["count"] == 400
    assert 50 <= told["splits"]["val"]["count"] <= 110
    files = tmp_path / "files"
    lines_of = {split: {key.split(",")[1] for key in Packed(files, split).keys} for split in ("train", "val")}
    assert not lines_of["train"] & lines_of["val"]
    again = prepare({"val_share": 0.2, "val_from": "test"}, train=lines, test=lines, dev=None)
    assert again["splits"]["train"]["count"] == 400 and 50 <= again["splits"]["val"]["count"] <= 110


def test_sentences_without_mentions_and_counts_that_are_expected(prepare):
    told = prepare(train=[sentence(GOOD), sentence(), sentence()])
    assert told["sentences_without_mentions"] == {"train.json": 2, "dev.json": 0, "test.json": 0}
    with pytest.raises(ConfigError, match=r"holds 2 types \(expected 47\)"):
        prepare({"expect": {"types": 47}})


def test_too_many_rejects_and_nothing_left(prepare):
    bad = sentence({"start": 1, "end": 2, "labels": []})
    with pytest.raises(ConfigError, match=r"1 of 4 files .* more than max_reject_share 0.1"):
        prepare({"max_reject_share": 0.1}, train=[sentence(GOOD), bad])
    with pytest.raises(
        ConfigError, match=r"train has no text that can be used: train.json, line 1, mention 1: no type"
    ):
        prepare(train=[bad])


def test_files_that_are_not_there_are_named_with_the_layout(prepare, tmp_path):
    with pytest.raises(ConfigError, match=r"which lacks test\.json; .*a sentence a line; github\.com/shanzhenren/AFET"):
        prepare(test=None)
    (tmp_path / "outside.json").write_bytes(sentence(GOOD))
    (tmp_path / "root" / "test.json").symlink_to(tmp_path / "outside.json")
    with pytest.raises(ConfigError, match="expected all of a data set below its root"):
        prepare(test=None)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    (folder / "files").mkdir()
    return folder, typed_mentions.prepare(typed_mentions.Options(**MADE), folder / "work", folder / "files")


def test_the_embedded_set_is_read_back_whole(made, tmp_path):
    folder, told = made
    assert {split: entry["count"] for split, entry in told["splits"].items()} == {"train": 400, "val": 30, "test": 50}
    assert len(told["classes"]) == 25 and told["rejects"]["count"] == told["notes"]["count"] == 0
    labels = read_labels(folder / "files")
    assert sorted(set(labels.depths.tolist())) == [1, 2]
    leaves = np.sort(labels.counts[labels.depths == 2])[::-1]
    assert leaves[0] > 5 * leaves[-5], "frequencies follow Zipf"
    (tmp_path / "files").mkdir()
    typed_mentions.prepare(typed_mentions.Options(**MADE), tmp_path / "work", tmp_path / "files")
    for path in sorted((folder / "files").iterdir()):
        if path.suffix in (".json", ".bin"):
            assert path.read_bytes() == (tmp_path / "files" / path.name).read_bytes(), path.name


def test_linked_leaves_come_together(made):
    files = made[0] / "files"
    arrays, names = read_split(files, "train"), read_labels(files).names
    sets = [set(part.tolist()) for part in np.split(arrays.labels, arrays.label_ends[:-1])]
    for leaf, other in typed_mentions.LINKED.items():
        having = [found for found in sets if names.index(leaf) in found]
        both = sum(names.index(other) in found for found in having)
        assert abs(both / len(having) - 0.6) < 0.25
    for found in sets:
        assert all(
            names.index(names[label].rpartition("/")[0]) in found for label in found if names[label].count("/") == 2
        )


def test_a_window_holds_the_words_around_a_mention_in_fixed_places(made):
    folder, _ = made
    settings = recipe("meta_multilabel") | {"text": {"context": 4, "length": 2}}
    texts = text.open_train(folder, settings, seed=0)
    words = ["", "?", *json.loads((folder / "files/words.json").read_text())]
    batch = texts.__getitems__([(0, index) for index in range(40)])
    assert batch["text"].shape == (40, 2, 10) and batch["targets"].shape == (40, 25)
    for index in range(40):
        whole = json.loads(Packed(folder / "files", "train").read(index))
        tokens, start, end = whole["tokens"], whole["start"], whole["end"]
        left, mention, right = tokens[:start][-4:], tokens[start:end][:2], tokens[end:][:4]
        expected = [
            *[""] * (4 - len(left)),
            *left,
            *mention,
            *[""] * (2 - len(mention)),
            *right,
            *[""] * (4 - len(right)),
        ]
        shown = [words[number] for number in batch["text"][index, 0].tolist()]
        assert all(seen in (token, "?") for seen, token in zip(shown, expected, strict=True))
        assert (batch["text"][index, 1] > 0).tolist() == [bool(token) for token in expected]
        assert {texts.classes[place] for place in batch["targets"][index].nonzero()[:, 0]} == set(whole["labels"])
    assert "?" in str(words) and texts[(0, 3)]["text"].equal(batch["text"][3])


def test_held_out_texts_are_of_the_validation_split_and_a_function_of_the_sample(made):
    folder, _ = made
    settings = recipe("meta_multilabel")
    texts = text.open_train(folder, settings | {"text": settings["text"] | {"held_out": True}}, seed=3)
    first, again, later = (texts.__getitems__([(epoch, 5), (epoch, 9)]) for epoch in (0, 0, 1))
    assert first["held_text"].equal(again["held_text"]) and not first["held_text"].equal(later["held_text"])
    val = text.open_train(folder, settings | {"split": "val"}, seed=3).__getitems__([(0, index) for index in range(30)])
    for row in first["held_text"]:
        assert (val["text"] == row).all(dim=(1, 2)).any()


def test_a_vocabulary_that_the_encoder_has_no_room_for(made, monkeypatch):
    monkeypatch.setitem(text.models()["text_cnn_micro"], "num_words", 100)
    with pytest.raises(ConfigError, match=r"has 200 words, and text_cnn_micro has room for 100; lower vocabulary_size"):
        text.open_train(made[0], recipe("meta_multilabel"), seed=0)


@pytest.mark.parametrize("change", [{"words": 1000}, {"label_ends": 0}, {"spans": 99}])
def test_arrays_that_do_not_fit_are_told(made, tmp_path, change):
    files = tmp_path / "files"
    files.mkdir()
    for path in (made[0] / "files").iterdir():
        (files / path.name).write_bytes(path.read_bytes())
    arrays = read_split(files, "val")._asdict()
    for name, value in change.items():
        arrays[name] = arrays[name].copy()
        arrays[name].flat[-1] = value
    np.savez(files / "val.texts.npz", **arrays)
    with pytest.raises(ConfigError, match=r"val\.texts\.npz does not fit the vocabulary and labels beside it"):
        read_split(files, "val")
