"""Few labels: the regression against Newton's method, the subsets, and the whole on features that are known."""

import json
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from pipeline.config import ConfigError
from pipeline.tasks.few_labels import draw, fit, measure_curve, unit_length

SETTINGS = {"labels_per_class": [4, 1], "num_subsets": 3, "penalty": 2.5e-3}


def minimum(x, labels, penalty):
    """(C, D) weights at which Newton's method comes to rest, by automatic differentiation."""
    num_classes = int(labels.max()) + 1

    def objective(flat):
        weights = flat.view(num_classes, -1)
        return F.cross_entropy(x @ weights.T, labels, reduction="sum") + penalty / 2 * flat.square().sum()

    flat = torch.zeros(num_classes * x.shape[1], dtype=torch.float64)
    for _ in range(60):
        gradient = torch.func.grad(objective)(flat)
        step = torch.linalg.solve(torch.func.hessian(objective)(flat), gradient)
        if step.norm() < 1e-6:  # and quadratically less from the minimum after it
            return (flat - step).view(num_classes, -1)
        while objective(flat - step) > objective(flat):
            step = step / 2
        flat = flat - step
    raise AssertionError("Newton's method does not end")


@pytest.mark.parametrize("num_classes", [2, 4])
@pytest.mark.parametrize("penalty", [2.5e-3, 1.0])
def test_the_regression_is_at_the_minimum(num_classes, penalty):
    generator = torch.Generator().manual_seed(num_classes)
    x = unit_length(torch.randn(6 * num_classes, 5, generator=generator))  # too many of each to be told apart
    labels, others = torch.arange(len(x)) % num_classes, unit_length(torch.randn(50, 5, generator=generator))
    expected = (others @ minimum(x, labels, penalty).T).softmax(1)
    regression = fit(x, labels, penalty)
    assert torch.allclose(torch.from_numpy(regression.predict_proba(others.numpy())), expected, atol=1e-5)
    assert regression.predict(others.numpy()).tolist() == expected.argmax(1).tolist()


def test_features_differ_in_direction_alone():
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)) + 3
    found = unit_length(x)
    assert torch.allclose(found, F.layer_norm(x.double(), [6], eps=0) / 6**0.5)
    assert torch.allclose(found, unit_length(5 * x - 2), atol=1e-6)


def test_subsets_hold_as_many_of_each_class_and_those_of_fewer():
    labels = torch.arange(600) % 3 + (torch.arange(600) > 500) * (torch.arange(600) % 3 == 0)  # of unequal frequency
    subsets = {size: draw(labels, size, 0, 1) for size in (1, 2, 10)}
    for size, subset in subsets.items():
        assert labels[subset].bincount().tolist() == [size] * 3 and subset.equal(subset.unique())
    assert set(subsets[1].tolist()) < set(subsets[2].tolist()) < set(subsets[10].tolist())
    assert torch.equal(draw(labels, 10, 0, 1), subsets[10])
    assert not torch.equal(draw(labels, 10, 0, 2), subsets[10]) and not torch.equal(draw(labels, 10, 1, 1), subsets[10])


def test_every_sample_of_a_class_is_as_likely():
    labels = torch.arange(40) % 4
    drawn = torch.cat([draw(labels, 3, 0, number) for number in range(2000)]).bincount(minlength=40)
    assert (drawn - 600).abs().max() < 5 * (2000 * 0.3 * 0.7) ** 0.5, "three of ten, 2,000 times"


class Samples:
    """Samples whose feature is a direction of their class and much noise; what is looked at is kept."""

    def __init__(self, count, seed, names=("ant", "bee", "cow")):
        self.classes, self.labels = list(names), torch.arange(count) % 3
        noise = torch.randn(count, 8, generator=torch.Generator().manual_seed(seed))
        self.features, self.seen = 2 * torch.eye(3, 8)[self.labels] + noise, []

    def __len__(self):
        return len(self.labels)

    def __getitems__(self, samples):
        self.seen += [index for _, index in samples]
        return {"images": self.features[[index for _, index in samples]]}


def features(images):
    return images.__getitems__([(0, index) for index in range(len(images))])["images"]


@pytest.fixture
def cell(tmp_path):
    def of(name, **changes):
        for part in ("work", "files"):
            (tmp_path / name / part).mkdir(parents=True)
        return SimpleNamespace(settings=SETTINGS | changes, seed=0, work=tmp_path / name / "work",
                               files=tmp_path / name / "files", data=tmp_path / "letters")  # fmt: skip

    return of


def test_a_curve_is_what_each_subset_gives_by_itself(cell):
    train, val, at = Samples(300, 0), Samples(90, 1), cell("one")
    found = measure_curve(at, train, val, features, "images")
    records = {record["metric"]: record for record in found["records"]}
    assert list(records) == ["few_shot", "top1_n1", "top1_n4"]
    kept = json.loads((at.files / "few_shot.json").read_text())
    for size in (1, 4):
        shares = []
        for number in range(3):
            subset = draw(train.labels, size, 0, number)
            weights = minimum(unit_length(train.features[subset]), train.labels[subset], SETTINGS["penalty"])
            told = (unit_length(val.features) @ weights.T).argmax(1)
            shares.append(100 * float((told == val.labels).float().mean()))
        assert [subset["top1"] for subset in kept[str(size)]] == pytest.approx(shares)
        assert records[f"top1_n{size}"]["value"] == pytest.approx(sum(shares) / 3, abs=1e-3)
        low, high = records[f"top1_n{size}"]["interval"]
        assert low < records[f"top1_n{size}"]["value"] < high
    assert records["few_shot"]["value"] == records["top1_n1"]["value"] < records["top1_n4"]["value"]
    labelled = torch.cat([draw(train.labels, 4, 0, number) for number in range(3)]).unique()
    assert train.seen == labelled.tolist(), "what has no label is not looked at"
    assert found["cost"]["samples"] == len(labelled) + 90
    again = cell("two")
    assert measure_curve(again, train, val, features, "images")["records"] == found["records"]
    for path in at.files.iterdir():
        assert path.read_bytes() == (again.files / path.name).read_bytes()


def test_subsets_that_agree_have_no_interval(cell):
    train, val = Samples(12, 0), Samples(30, 1)
    found = measure_curve(cell("all", labels_per_class=[4]), train, val, features, "images")
    assert found["records"][1]["interval"] is None, "four of each class are all there are"


def test_a_class_of_too_few_is_named_with_what_there_is(cell):
    train = Samples(11, 0)  # three cows
    said = r"asks for 4 images of each class, and of 1 of the 3 classes of .*letters there are fewer, of 'cow' 3"
    with pytest.raises(ConfigError, match=said):
        measure_curve(cell("few"), train, Samples(6, 1), features, "images")
    assert train.seen == []
