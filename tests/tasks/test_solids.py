"""Tasks on solids: measures against scikit-learn, heads against slow rewrites, subsets and pictures."""

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score

from pipeline.data.kinds import solids
from pipeline.tasks import few_shot
from pipeline.tasks.face_segmentation import face_labels, scores
from pipeline.tasks.part_classification import draw, part_labels
from pipeline.tasks.solids import drawing
from pipeline.tasks.solids.codes import Coded
from pipeline.tasks.solids.heads import ClassificationHead, SegmentationHead, fit_head


@pytest.fixture
def coded():
    """Four cubes, whose faces' classes follow from their codes, and whose part's class is that of its faces' sum."""
    graph = solids.example({"num_points": 1}, 4)["solids"]
    codes = torch.randn(24, 8, generator=torch.Generator().manual_seed(0))
    links = torch.cat([graph.adjacent, graph.adjacent.flip(1)])
    return Coded(codes, links, graph.owner, (codes[:, 0] > 0).long(), torch.tensor([0, 1, 0, 1]))


def test_measures(coded):
    coded = coded._replace(owner=torch.tensor([0] * 2 + [1] * 12 + [2] * 6 + [3] * 4))  # of parts of one size two agree
    told = torch.randint(3, (24,), generator=torch.Generator().manual_seed(1))
    found = scores(told, coded, 5)
    true = coded.face_labels
    by_part = [float((told[coded.owner == part] == true[coded.owner == part]).float().mean()) for part in range(4)]
    assert found["part_accuracy"] == pytest.approx(100 * sum(by_part) / 4)
    assert found["face_accuracy"] == pytest.approx(100 * float((told == true).float().mean()))
    labels = sorted(set(told.tolist()) | set(true.tolist()))
    expected = jaccard_score(true, told, labels=labels, average="macro")
    assert found["mean_iou"] == pytest.approx(100 * expected)


def test_some_parts_are_taken_as_a_whole(coded):
    some = coded.take([3, 1])
    assert some.labels.tolist() == [1, 1] and some.owner.tolist() == [0] * 6 + [1] * 6
    assert torch.equal(some.codes, torch.cat([coded.codes[18:], coded.codes[6:12]]))
    head = SegmentationHead(8, 2, 3).eval()
    assert torch.allclose(head(some)[:6], head(coded)[18:], atol=1e-6)


def test_heads_equal_slow_rewrites(coded):
    head = SegmentationHead(10, 1, 3)
    codes = torch.nn.functional.pad(coded.codes, (0, 2))
    rows = []
    for face, code in enumerate(codes):
        around = [code - codes[other] for one, other in coded.links.tolist() if one == face]
        most = torch.stack(around).max(0).values
        mixed = head.layers[0].map(torch.cat([code, most]))
        hidden = head.hidden(code + torch.where(mixed > 0, mixed, 0.01 * mixed))
        rows.append(head.last(torch.where(hidden > 0, hidden, 0.01 * hidden)))
    assert torch.allclose(head(coded), torch.stack(rows), atol=1e-5)
    head = ClassificationHead(8, 3)
    for part in range(4):
        most = head.hidden(coded.codes[coded.owner == part]).max(0).values
        expected = head.last(torch.where(most > 0, most, 0.01 * most))
        assert torch.allclose(head(coded)[part], expected, atol=1e-5)


def test_a_head_learns_and_is_the_best_of_its_training(coded):
    settings = {"lr": 1e-2, "max_epochs": 60, "patience": 60, "batch_size": 2}
    torch.manual_seed(0)
    head = fit_head(SegmentationHead(8, 0, 2), coded, [0, 1, 2], [0, 1, 2], face_labels, settings, torch.Generator())
    assert (head(coded).argmax(1) == coded.face_labels)[:18].float().mean() > 0.9
    losses = []
    for epochs in (1, 4, 16, 64):  # soon it learns part 0 by heart, and tells part 3 worse and worse
        torch.manual_seed(0)
        more = {**settings, "lr": 0.1, "max_epochs": epochs, "patience": 64}
        found = fit_head(SegmentationHead(8, 0, 2), coded, [0], [3], face_labels, more, torch.Generator())
        held = coded.take([3])
        losses.append(float(torch.nn.functional.cross_entropy(found(held), held.face_labels)))
    assert losses == sorted(losses, reverse=True)
    torch.manual_seed(0)
    head = fit_head(ClassificationHead(8, 2), coded, [0, 1], [0, 1], part_labels, settings, torch.Generator())
    assert (head(coded).argmax(1)[:2] == coded.labels[:2]).all()


def test_two_parts_of_each_class_at_least():
    labels = torch.tensor([0] * 30 + [1] * 4)
    learn, hold = draw(labels, 0.01, 0.2, torch.Generator().manual_seed(0))
    assert labels[learn].tolist() == [0, 1] and labels[hold].tolist() == [0, 1] and not set(learn) & set(hold)
    learn, hold = draw(labels, 1.0, 0.2, torch.Generator().manual_seed(0))
    assert len(learn) == 27 and labels[hold].bincount().tolist() == [6, 1]


def test_subsets_that_were_measured_are_not_measured_again(tmp_path):
    class At:
        work = tmp_path

    seen = []

    def measure(size, number):
        seen.append((size, number))
        if len(seen) == 3:
            raise KeyboardInterrupt
        return {"top1": 10.0 * size + number}

    with pytest.raises(KeyboardInterrupt):
        few_shot.run_subsets(At, [1, 2], 2, measure)
    found = few_shot.run_subsets(At, [1, 2], 2, measure)
    assert seen == [(1, 0), (1, 1), (2, 0), (2, 0), (2, 1)]
    told = {record["metric"]: record for record in few_shot.records(found, ["top1"], "top1")}
    assert told["few_shot"]["value"] == told["top1_n1"]["value"] == 10.5 and told["top1_n2"]["value"] == 20.5
    low, high = told["top1_n1"]["interval"]
    assert high - 10.5 == pytest.approx(12.706 * 0.5**0.5 / 2**0.5 * 1.0, rel=1e-3) and low < 10.5  # t of one degree


def test_the_nearer_triangle_hides_the_other():
    towards = drawing.VIEW[2] / np.linalg.norm(drawing.VIEW[2])
    flat = np.array([[-1.0, 0, 0], [1, 0, 0], [0, 1, 0.3]])
    corners = np.stack([flat + 0.4 * towards, flat - 0.4 * towards])
    for order in ([0, 1], [1, 0]):
        colours = np.array([[1.0, 0, 0], [0, 0, 1.0]])
        picture = drawing.draw(corners[order], colours[order], 60).astype(int)
        assert (picture[..., 0] > picture[..., 2]).sum() > 50
        assert (picture[..., 2] > picture[..., 0]).sum() < 10, "seen from the front, red hides all of blue but its rim"


def test_a_decoder_that_says_nothing_lies_inside_draws_nothing():
    def outside(places, codes):
        return torch.cat([places, places], dim=2)  # of the distances, many are positive

    picture = drawing.decoded_solid(lambda at, of: outside(at, of).abs() + 1, torch.zeros(2, 4), [0, 1])
    assert (picture == 255).all()
