"""Names as the field writes them, for those that are known and those that are not."""

import pytest

from pipeline.report import words


@pytest.mark.parametrize(
    ("name", "spelled"),
    [
        ("top1", "top-1"),
        ("miou", "mIoU"),
        ("r2_fainter", "R² fainter"),
        ("r2_fainter_branch", "R² fainter branch"),
        ("cosine_stronger", "cosine stronger"),
        ("agreement_k20", "agreement k = 20"),
        ("block_k", "block k"),
    ],
)
def test_metrics(name, spelled):
    assert words.metric(name) == spelled


def test_settings_and_their_values():
    assert words.setting("options.mask_ratio") == "mask ratio"
    assert words.setting("stages") == "number of stages"
    assert words.sentence("mask ratio of MAE") == "Mask ratio of MAE"
    assert [words.value(value) for value in (True, False, None, 0.75, "block")] == [
        "yes",
        "no",
        "none",
        "0.75",
        "block",
    ]


def test_methods_and_stages():
    assert (words.method("imae"), words.method("dream")) == ("i-MAE", "dream")
    assert words.stage("separability") == "Linear separability of blended images"
    assert words.short_stage("video_probe") == "Video probe"
