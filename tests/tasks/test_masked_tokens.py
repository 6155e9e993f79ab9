"""Masked words: counts and intervals of known answers, and the task whole on a set of a few."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from pipeline.config import PROTOCOLS, ConfigError
from pipeline.engine.pretrain import save_method
from pipeline.manifest import publish
from pipeline.nn.encoders import save_encoder
from pipeline.tasks import filled, masked_tokens
from pipeline.tasks.masked_tokens import CONDITIONS, by_word, measure, summarise
from tests.methods import recipe
from tests.methods.conftest import build
from tests.tasks.captioned import OPTIONS, prepare

VOCABULARY = OPTIONS["vocabulary_size"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("pairs") / "data")


@pytest.fixture
def cell(data, tmp_path):
    """A published run of M3AE that has learned nothing."""

    def of(method="m3ae", size=VOCABULARY):
        settings = recipe("m3ae") | {"method": method}
        settings["options"]["vocabulary_size"] = size
        made = build("m3ae", vocabulary_size=size)
        (work := tmp_path / "work" / "files").mkdir(parents=True)
        save_encoder(made.encoder, work / "encoder.safetensors")
        save_method(made, work / "method.safetensors")
        publish(tmp_path / "run", work, {"settings": settings})
        (tmp_path / "files").mkdir()
        protocol = yaml.safe_load((PROTOCOLS / "masked_tokens.yaml").read_text())["demo"] | {"batch_size": 4}
        return SimpleNamespace(settings=protocol, data=data, encoder=tmp_path / "run/files/encoder.safetensors",
                               files=tmp_path / "files", seed=0, stage="masked_tokens",
                               run=SimpleNamespace(name="mine"))  # fmt: skip

    return of


def told_of(captions, rights, surprises):
    """Words of some captions, of which each condition tells some."""
    told = {"caption": torch.tensor(captions), "word": torch.arange(len(captions)) % 3}
    for condition, right, surprise in zip(CONDITIONS, rights, surprises, strict=True):
        told |= {f"right_{condition}": torch.tensor(right), f"surprise_{condition}": torch.tensor(surprise)}
    return told


def test_records_count_words_and_intervals_draw_captions():
    rights = [[True, True, True, False], [True, False, False, False], [False, True, True, False]]
    told = told_of([0, 0, 1, 2], rights, [[0.5, 0.1, 0.2, 0.4]] * 3)
    records = {record["metric"]: record for record in summarise(told, 0)}
    assert records["accuracy_with_image"]["value"] == 75 and records["accuracy_without_image"]["value"] == 50
    assert records["image_gain"]["value"] == 50 and records["image_gain"]["interval"][0] <= 50
    assert records["perplexity_with_image"]["value"] == pytest.approx(np.exp(0.3), abs=1e-4)
    assert records["perplexity_with_image"]["higher_is_better"] is False
    # A caption whose words are all told, beside two of which none is: a third of draws of three has it not.
    alone = summarise(told_of([0, 0, 1, 2], [[True, True, False, False]] * 3, [[0.0] * 4] * 3), 0)[0]
    assert alone["interval"] == [0, 100]


def test_an_image_that_adds_nothing_has_no_gain():
    generator = torch.Generator().manual_seed(0)
    right = (torch.rand(400, generator=generator) < 0.6).tolist()
    gain = summarise(told_of([n // 4 for n in range(400)], [right] * 3, [[0.0] * 400] * 3), 0)[3]
    assert gain["metric"] == "image_gain" and gain["value"] == 0 and gain["interval"] == [0, 0]


def test_words_are_told_by_name():
    told = told_of([0, 0, 1, 2], [[True, True, False, True]] * 3, [[0.0] * 4] * 3)
    assert by_word(told, ["a", "b", "c"])[0] == {"word": "a", "count": 2, **dict.fromkeys(CONDITIONS, 1.0)}


def test_hidden_words_are_all_measured_once_and_the_image_is_seen(cell):
    method = masked_tokens.load(own := cell())
    pairs = masked_tokens.open_eval(own.data, "val", own.settings, VOCABULARY)
    captioned = [index for index in range(len(pairs)) if pairs.spoken(index)]
    told = measure(method, pairs, captioned, own.settings, 0)
    lengths = [min(own.settings["length"], len(pairs.words.ids(pairs.spoken(index)[0]))) for index in captioned]
    assert len(told["word"]) <= sum(lengths) and set(told["caption"].tolist()) <= set(range(len(captioned)))
    again = measure(method, pairs, captioned, {**own.settings, "batch_size": 3}, 0)
    assert all(torch.allclose(told[name].float(), again[name].float(), atol=1e-5) for name in told)
    surprises = [told[f"surprise_{condition}"] for condition in CONDITIONS]
    assert not torch.allclose(surprises[0], surprises[1]) and not torch.allclose(surprises[0], surprises[2])


def test_images_are_masked_as_in_training(cell, monkeypatch):
    method = masked_tokens.load(own := cell())
    pairs = masked_tokens.open_eval(own.data, "val", own.settings, VOCABULARY)
    see, hidden = method.see, []
    monkeypatch.setattr(method, "see", lambda images, masking: hidden.append(masking.mask) or see(images, masking))
    captioned = [index for index in range(len(pairs)) if pairs.spoken(index)]
    measure(method, pairs, captioned, own.settings, 0)
    num_hidden = 16 - int(16 * (1 - method.options.image_mask_ratio))
    assert all((mask.sum(dim=1) == num_hidden).all() for mask in hidden)
    assert (hidden[0] != hidden[0][0]).any()  # not the same patches of all


def test_the_task_whole(cell):
    own = cell()
    found = masked_tokens.evaluate(own)
    assert len(found["records"]) == 7 and found["records"][0]["metric"] == "accuracy_with_image"
    assert {row["word"] for row in json.loads((own.files / "words.json").read_text())}
    with Image.open(own.files / "filled.png") as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24)}
        assert picture.width == filled.WIDTH and {filled.VISIBLE, filled.WRONG} <= colours


def test_a_word_is_marked_by_what_became_of_it():
    pairs = SimpleNamespace(words=SimpleNamespace(words=lambda ids: ["abc"[i] for i in ids]))
    ids, guesses, hidden = torch.tensor([0, 1, 2]), torch.tensor([2, 1, 0]), torch.tensor([False, True, True])
    assert filled._words(pairs, ids, guesses, hidden) == [
        ("a", filled.VISIBLE), ("b", filled.RIGHT), ("a [c]", filled.WRONG)]  # fmt: skip


def test_runs_that_fill_in_no_words_are_refused(cell):
    own = cell(method="mae")
    with pytest.raises(ConfigError, match=r"mine was trained by mae, which fills in no words; .*masked_tokens.runs"):
        masked_tokens.evaluate(own)


def test_another_size_of_images_or_vocabulary_is_told(cell):
    own = cell(size=VOCABULARY + 1)
    with pytest.raises(
        ConfigError, match=f"vocabulary_size is {VOCABULARY + 1}, and that of .* has {VOCABULARY} tokens"
    ):
        masked_tokens.evaluate(own)
    own.settings["image_size"] = 32
    with pytest.raises(ConfigError, match=r"image_size is 32, and mine was trained on \(16, 16\)"):
        masked_tokens.evaluate(own)
