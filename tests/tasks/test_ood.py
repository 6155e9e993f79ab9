"""Scores that tell classes that were seen from others, on features whose answer is known, and the task whole."""

from types import SimpleNamespace

import pytest
import torch
import yaml

from pipeline.config import PROTOCOLS, ConfigError
from pipeline.nn.encoders import build_encoder, save_encoder
from pipeline.tasks import ood
from pipeline.tasks.ood import auroc_record, nearest_class
from tests.tasks.captioned import prepare

FEW = {"duration": "2 steps", "warmup": "1 steps", "batch_size": 8}


def test_distances_equal_a_slow_rewrite():
    torch.manual_seed(0)
    bank, labels, features = torch.randn(40, 3) * torch.tensor([1.0, 5.0, 0.1]), torch.arange(40) % 4, torch.randn(6, 3)
    means = [bank[labels == c].mean(0) for c in range(4)]
    covariance = sum(torch.outer(x - means[c], x - means[c]) for x, c in zip(bank, labels.tolist(), strict=True)) / 40
    inverse = torch.linalg.inv(covariance)
    expected = [min(float((x - m) @ inverse @ (x - m)) for m in means) for x in features]
    assert nearest_class(features, bank, labels, 4).tolist() == pytest.approx(expected, rel=1e-3)


def test_a_direction_without_variance_does_no_harm():
    bank = torch.cat([torch.randn(40, 3), torch.ones(40, 1)], dim=1)
    assert nearest_class(bank, bank, torch.arange(40) % 4, 4).isfinite().all()


def test_the_area_counts_pairs():
    inside, outside = torch.tensor([0.9, 0.5, 0.5, 0.1]), torch.tensor([0.5, 0.2, 0.0])
    record = auroc_record("auroc", inside, outside)
    pairs = [(x > y) + (x == y) / 2 for x in inside.tolist() for y in outside.tolist()]
    assert record["value"] == pytest.approx(100 * sum(pairs) / len(pairs), abs=1e-3) and record["count"] == 7
    low, high = record["interval"]
    assert 0 <= low < record["value"] < high <= 100
    perfect = auroc_record("auroc", torch.tensor([2.0, 3.0]), torch.tensor([0.0, 1.0]))
    assert perfect["value"] == 100 and perfect["interval"] == [100, 100]


def test_the_interval_is_that_of_delong():
    """Of many sets drawn anew, the area of all pairs of normals lies in the interval of nineteen in twenty."""
    torch.manual_seed(0)
    true, hits = 100 * float(torch.distributions.Normal(0, 1).cdf(torch.tensor(1 / 2**0.5))), 0
    for _ in range(300):
        low, high = auroc_record("auroc", torch.randn(60) + 1, torch.randn(40))["interval"]
        hits += low <= true <= high
    assert 0.9 < hits / 300 < 0.98


@pytest.fixture
def cell(tmp_path):
    prepare(tmp_path / "data")
    torch.manual_seed(0)
    save_encoder(build_encoder("vit_joint_micro", 16), tmp_path / "encoder.safetensors")
    (tmp_path / "files").mkdir()
    settings = yaml.safe_load((PROTOCOLS / "ood.yaml").read_text())["demo"]
    settings["train"] |= FEW
    return SimpleNamespace(settings=settings, data=tmp_path / "data", encoder=tmp_path / "encoder.safetensors", seed=0,
                           work=tmp_path, files=tmp_path / "files")  # fmt: skip


def test_the_task_measures_what_was_held_out(cell):
    told = ood.evaluate(cell)
    records = {record["metric"]: record for record in told["records"]}
    assert set(records) == {"auroc_mahalanobis", "auroc_max_softmax", "top1"}
    assert records["auroc_mahalanobis"]["count"] == 20 and records["top1"]["count"] == 14
    assert all(0 <= record["value"] <= 100 for record in records.values())


def test_two_classes_must_be_left(cell):
    cell.settings["num_out_classes"] = 9
    with pytest.raises(ConfigError, match=r"num_out_classes is 9, and .* has 10 classes; expected to leave two"):
        ood.evaluate(cell)
