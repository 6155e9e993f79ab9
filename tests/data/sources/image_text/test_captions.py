"""Captioned images in each layout, what is wrong in them told by name, and the embedded set read back."""

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from pipeline.config import ConfigError, DataSet
from pipeline.config.sets import choose_set
from pipeline.data.kinds import image_text
from pipeline.data.packed import Packed
from pipeline.data.sources.image_text import captioned_digits, captions
from pipeline.data.tokens import SPECIAL, WordPiece, learn_vocabulary
from tests.tasks.captioned import PHRASES

PARTS = {"a.jpg": None, "a.txt": b"a red  seven", "b.jpg": None, "b.json": b'{"caption": "blue one"}', "c.jpg": None,
         "d.txt": b"of nothing", "e.jpg": b"broken", "e.txt": b"a seven", "f.jpg": None, "f.txt": b"\xff\xfe",
         "g.jpg": None, "g.txt": b"  \n"}  # fmt: skip
DIGITS = {"train_images": 20, "val_images": 10, "num_texts": 4, "image_size": 16,
          "photos": ("brick", "grass"), "colours": ("red", "blue", "white"),
          "ground": 0.5, "window": 48, "scale": (0.55, 0.75), "shift": 0.15, "rotation": 10.0, "shear": 0.1,
          "phrases": PHRASES, "silent_share": 0.2, "vocabulary_size": 70, "val_share": 0.28, "seed": 0}  # fmt: skip


def jpeg():
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def vocabulary(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join([*SPECIAL, *"abcdefghijklmnopqrstuvwxyz", "red", "seven", "blue", "one"]) + "\n")
    return path


@pytest.fixture
def prepare(tmp_path, vocabulary):
    def run(root, layout, **changes):
        usual = {"root": str(root), "layout": layout, "vocabulary": str(vocabulary), "texts": None, "val_share": 0.0,
                 "expect": None, "max_reject_share": 0.6, "num_workers": 2, "shard_mib": 1}  # fmt: skip
        (tmp_path / "files").mkdir(exist_ok=True)
        return captions.prepare(captions.Options(**usual | changes), tmp_path / "work", tmp_path / "files")

    return run


def lay(root, layout):
    for split in ("train", "val"):
        (root / split).mkdir(parents=True)
        files = {name: data if data is not None else jpeg() for name, data in PARTS.items()}
        if layout == "folder":
            for name, data in files.items():
                (root / split / name).write_bytes(data)
            continue
        with tarfile.open(root / split / "00000.tar", "w") as tar:
            for name, data in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))


@pytest.mark.parametrize("layout", ["folder", "webdataset"])
def test_what_is_wrong_is_rejected_by_name_and_the_rest_is_packed(tmp_path, prepare, layout):
    lay(tmp_path / "root", layout)
    told = prepare(tmp_path / "root", layout)
    assert told["splits"]["train"] == {"count": 4, "captions": 2, "without_caption": 2}
    reasons = {reject["file"].split("/")[-1]: reject["reason"] for reject in told["rejects"]["first"]}
    assert set(reasons) == {"d", "e", "f"}
    assert "an image that is not there" in reasons["d"] and reasons["f"] == "its caption is not UTF-8"
    assert [note["note"] for note in told["notes"]["first"]] == ["a caption of no words, left out"] * 2
    packed = Packed(tmp_path / "files", "train-captions")
    assert [json.loads(packed.read(place)) for place in range(4)] == [["a red seven"], ["blue one"], [], []]


def test_coco_s_captions_of_images_that_are_not_there(tmp_path, prepare):
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        (root / f"{split}2017").mkdir()
        (root / f"{split}2017/1.jpg").write_bytes(jpeg())
        images = [{"id": 1, "file_name": "1.jpg"}, {"id": 2, "file_name": "2.jpg"}]
        said = [{"image_id": 1, "caption": "red"}, {"image_id": 1, "caption": "one"}, {"image_id": 9, "caption": "a"}]
        (root / f"annotations/captions_{split}2017.json").write_text(
            json.dumps({"images": images, "annotations": said})
        )
    told = prepare(root, "coco", max_reject_share=0.7)
    assert told["splits"]["train"] == {"count": 1, "captions": 2, "without_caption": 0}
    assert {reject["file"] for reject in told["rejects"]["first"]} == {
        f"{split}2017/{name}" for split in ("train", "val") for name in ("2.jpg", "9")
    }
    with pytest.raises(ConfigError, match="more than max_reject_share"):
        prepare(root, "coco", max_reject_share=0.1)


def test_a_vocabulary_without_its_special_tokens_is_refused(tmp_path):
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    with pytest.raises(ConfigError, match=r"has 2 tokens and lacks \[PAD\], \[UNK\], \[CLS\], \[SEP\], \[MASK\]"):
        WordPiece(tmp_path / "vocab.txt")


def test_tokens_out_of_range_are_told(vocabulary):
    words = WordPiece(vocabulary)
    assert words.words(words.ids("A red seven")) == ["a", "red", "seven"]
    with pytest.raises(ValueError, match="token 999 is out of range"):
        words.words([999])


def test_learned_words_are_the_most_frequent(tmp_path):
    assert learn_vocabulary(["aa b aa", "ab b"], 10) == [*SPECIAL, "a", "b", "##a", "##b", "aa"]
    with pytest.raises(ConfigError, match="vocabulary_size is 3; expected 9"):
        learn_vocabulary(["aa b aa", "ab b"], 3)


def test_the_embedded_set_is_read_back_with_the_words_of_what_was_drawn(tmp_path):
    (tmp_path / "files").mkdir()
    told = captioned_digits.prepare(captioned_digits.Options(**DIGITS), tmp_path / "work", tmp_path / "files")
    assert told["splits"]["train"]["count"] == 20 and told["texts"] == 4 and told["vocabulary"]["size"] == 70
    text = {"length": 24, "unpaired_length": 12, "caption_share": 1.0, "drop": "by_index"}
    settings = {"augment": {"kind": "crop", "image_size": 16, "scale": [0.6, 1.0], "ratio": [0.9, 1.1], "flip": False},
                "text": text, "options": {"vocabulary_size": 70}}  # fmt: skip
    pairs = image_text.open_train(tmp_path, settings, 0)
    batch = pairs.__getitems__([(0, index) for index in range(20)])
    assert batch["ids"].shape == (20, 24) and batch["text_ids"].shape == (20, 12)
    for index in range(20):
        digit = pairs.classes[pairs.labels[index]].partition("_")[2]
        assert all(digit in caption.split() for caption in pairs.spoken(index))
        assert bool(batch["padding"][index].all()) == (not pairs.spoken(index))
    silent = image_text.open_train(tmp_path, {**settings, "text": {**text, "caption_share": 0.0}}, 0)
    assert silent.__getitems__([(0, 1)])["padding"].all()
    for size in (30522, 40):  # of a smaller one, tokens of the set would be out of range
        with pytest.raises(ConfigError, match=rf"vocabulary_size is {size}, and that of .* has 70 tokens"):
            image_text.open_train(tmp_path, {**settings, "options": {"vocabulary_size": size}}, 0)


def test_a_named_set_of_captioned_images_is_read_as_images():
    data = {name: DataSet(name=name, kind=kind, source="s", options={}) for name, kind in
            (("digits", "images"), ("pairs", "image_text"), ("scenes", "detection"))}  # fmt: skip
    assert choose_set(data, "images", None, "runs.mae").name == "digits"
    assert choose_set(data, "images", "pairs", "runs.mae").name == "pairs"
    with pytest.raises(ConfigError, match="a set of images; expected image_text"):
        choose_set(data, "image_text", "digits", "runs.m3ae")


@pytest.mark.parametrize("phrases", [(), ("a photo",), ("a {size} {digit}",), ("a {digit",)])
def test_phrases_that_say_nothing_of_an_image_are_refused(phrases):
    with pytest.raises(ConfigError, match=r"phrases has .*; expected words and some of {digit}, {colour}, {place}"):
        captioned_digits.Options(**DIGITS | {"phrases": phrases})
