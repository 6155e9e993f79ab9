"""Names as the field writes them, for those that are known and those that are not."""

from pathlib import Path

import pytest

from pipeline.config import load_study
from pipeline.report import words

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def project(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(
    ("name", "spelled"),
    [
        ("r2_fainter", "R² fainter"),
        ("r2_fainter_branch", "R² fainter branch"),
        ("cosine_stronger", "cosine stronger"),
        ("agreement_k20", "agreement k = 20"),
        ("part_accuracy_n20", "part accuracy n = 20"),
        ("block_k", "block k"),
    ],
)
def test_metrics(name, spelled):
    assert load_study("config/demo.yaml").metric("separability", name) == spelled


def test_settings_and_their_values():
    assert words.setting("options.mask_ratio", "mae") == "mask ratio"
    assert words.setting("stages", "dbot") == "number of stages"
    assert words.sentence("mask ratio of MAE") == "Mask ratio of MAE"
    assert [words.value(value) for value in (True, False, None, 0.75, "block")] == [
        "yes",
        "no",
        "none",
        "0.75",
        "block",
    ]


def test_methods_stages_and_metrics_are_called_as_their_files_say():
    assert (words.method("imae"), words.method("dream")) == ("i-MAE", "dream")
    assert words.setting("options.fill", "mixmask") == "filling of the masked part"
    study = load_study("config/demo.yaml")
    assert study.title("separability") == "Linear separability of blended images"
    assert (study.short("knn"), study.short("finetune"), study.short("pretrain")) == (
        "k-NN",
        "Fine-tuning",
        "Pretraining",
    )
    assert (study.metric("segment", "miou"), study.metric("knn", "top1")) == ("mIoU", "top-1")
