"""Metrics of sets of labels against scikit-learn and loops, and the task on a run that was published."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn import metrics

from pipeline.config import ConfigError
from pipeline.data.sources.text import typed_mentions
from pipeline.engine.pretrain import save_method
from pipeline.methods import build_method
from pipeline.nn.encoders import save_encoder
from pipeline.tasks import label_metrics, multilabel
from tests.data.sources.text.test_afet import MADE
from tests.methods import recipe
from tests.methods.conftest import build, context


@pytest.fixture(params=[0, 1])
def sets(request):
    """Probabilities and true labels of 60 texts, some of which nothing is predicted for, and one label nobody has."""
    rng = np.random.default_rng(request.param)
    targets = rng.random((60, 7)) < 0.3
    targets[:, 5] = False
    targets[np.arange(60), rng.integers(5, size=60)] = True
    return np.clip(0.45 * targets + 0.65 * rng.random((60, 7)), 0, 1), targets


@pytest.mark.parametrize("force", [True, False])
def test_metrics_are_scikit_learn_s(sets, force):
    probabilities, targets = sets
    predicted = label_metrics.predict(probabilities, np.full(7, 0.6), force)
    assert force or (~predicted).all(axis=1).any()
    found = label_metrics.measure(targets, predicted)
    none = {"zero_division": 0}
    precision = metrics.precision_score(targets, predicted, average="samples", **none)
    recall = metrics.recall_score(targets, predicted, average="samples", **none)
    assert found == pytest.approx({
        "strict_accuracy": metrics.accuracy_score(targets, predicted),
        "loose_macro_f1": 2 * precision * recall / (precision + recall),
        "loose_micro_f1": metrics.f1_score(targets, predicted, average="micro", **none),
        "label_macro_f1": metrics.f1_score(targets, predicted, average="macro", **none),
        "hamming_loss": metrics.hamming_loss(targets, predicted),
    }, abs=1e-6)  # fmt: skip
    by_label = label_metrics.by_label(targets, predicted)
    for name, score in (
        ("precision", metrics.precision_score),
        ("recall", metrics.recall_score),
        ("f1", metrics.f1_score),
    ):
        assert by_label[name] == pytest.approx(score(targets, predicted, average=None, **none))


def test_loose_metrics_are_those_of_the_papers_loops(sets):
    probabilities, targets = sets
    predicted = label_metrics.predict(probabilities, np.full(7, 0.6), False)
    precisions, recalls, right, said, true, strict = [], [], 0, 0, 0, 0
    for gold, guess in zip(targets, predicted, strict=True):
        gold, guess = set(np.flatnonzero(gold)), set(np.flatnonzero(guess))
        precisions.append(len(gold & guess) / len(guess) if guess else 0.0)
        recalls.append(len(gold & guess) / len(gold))
        right, said, true, strict = (
            right + len(gold & guess),
            said + len(guess),
            true + len(gold),
            strict + (gold == guess),
        )
    p, r = sum(precisions) / 60, sum(recalls) / 60
    found = label_metrics.measure(targets, predicted)
    assert found["loose_macro_f1"] == pytest.approx(2 * p * r / (p + r), abs=1e-6)
    assert found["loose_micro_f1"] == pytest.approx(2 * right / (said + true), abs=1e-6)
    assert found["strict_accuracy"] == pytest.approx(strict / 60)


def test_the_likeliest_label_is_forced_and_nothing_else(sets):
    probabilities, _ = sets
    free, forced = (label_metrics.predict(probabilities, np.full(7, 0.6), force) for force in (False, True))
    changed = np.argwhere(free != forced)
    assert len(changed) and all(column == probabilities[row].argmax() for row, column in changed)


def test_an_interval_holds_the_value_and_narrows_with_more_texts(sets):
    probabilities, targets = sets
    many = [np.tile(x, (16, 1)) for x in (targets, probabilities > 0.6)]
    wide = label_metrics.intervals(targets, probabilities > 0.6, 400, 0)
    narrow = label_metrics.intervals(*many, 400, 0)
    for name, value in label_metrics.measure(targets, probabilities > 0.6).items():
        assert wide[name][0] < value < wide[name][1]
        ratio = (wide[name][1] - wide[name][0]) / (narrow[name][1] - narrow[name][0])
        assert 3 < ratio < 5.3, "a quarter of the width with sixteen times as many"
    assert wide == label_metrics.intervals(targets, probabilities > 0.6, 400, 0)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A set, and a run on it as it was initialised, with a threshold that lets everything pass."""
    folder = tmp_path_factory.mktemp("published")
    (folder / "data/files").mkdir(parents=True)
    typed_mentions.prepare(typed_mentions.Options(**MADE), folder / "work", folder / "data/files")
    settings = recipe("meta_multilabel") | {"data": "made"}
    torch.manual_seed(0)
    method = build_method(settings, context(num_classes=25))
    method.emitted[0, 3] = 0.0
    publish(folder, method, settings)
    return folder


def publish(folder, method, settings):
    (folder / "run/files").mkdir(parents=True, exist_ok=True)
    save_encoder(method.encoder, folder / "run/files/encoder.safetensors")
    save_method(method, folder / "run/files/method.safetensors")
    whole = {"format": 1, "settings": settings, "artefacts": {}, "digest": "", "records": [], "inputs": {}, "cost": {}}
    (folder / "run/manifest.json").write_text(json.dumps(whole))


def cell_of(folder, files, **changes):
    settings = {"split": "test", "resamples": 20, "data": "made", **changes}
    return SimpleNamespace(settings=settings, data=folder / "data", encoder=folder / "run/files/encoder.safetensors",
                           files=files, seed=0)  # fmt: skip


def test_the_task_measures_a_run_s_own_thresholds(published, tmp_path):
    told = multilabel.evaluate(cell_of(published, tmp_path))
    names = [record["metric"] for record in told["records"]]
    assert names == [*label_metrics.METRICS, *(f"{name}_free" for name in label_metrics.METRICS), "empty"]
    assert all(record["count"] == 50 and 0 <= record["value"] <= 100 for record in told["records"])
    table = {entry["name"]: entry for entry in json.loads((tmp_path / "labels.json").read_text())}
    assert len(table) == 25 and sorted(table)[3] == list(table)[3]
    always = list(table.values())[3]
    assert (always["threshold"] == 0.0 and always["recall"] == 1.0) or always["count"] == 0
    assert {entry["depth"] for entry in table.values()} == {1, 2}
    assert (tmp_path / "labels.png").stat().st_size > 5000
    assert told["cost"]["samples"] == 50 and told["pictures"][0]["path"] == "files/labels.png"


def test_what_cannot_be_measured_is_told(published, tmp_path):
    with pytest.raises(
        ConfigError, match="the run learned the labels of made, the task reads other; name the same set"
    ):
        multilabel.evaluate(cell_of(published, tmp_path, data="other"))
    method = build("mae")
    publish(tmp_path, method, recipe("mae") | {"data": "made"})
    (tmp_path / "data").symlink_to(published / "data")
    (tmp_path / "files").mkdir()
    with pytest.raises(
        ConfigError, match="the method mae trains no classifier of labels; list runs of meta_multilabel"
    ):
        multilabel.evaluate(cell_of(tmp_path, tmp_path / "files"))
