import pytest
import torch

from pipeline.tasks.accuracy import accuracy_record

SCORES = torch.tensor([[0.9, 0.05, 0.05], [0.2, 0.3, 0.5], [0.1, 0.2, 0.7], [0.6, 0.3, 0.1]])
LABELS = torch.tensor([0, 1, 2, 2])


def test_share_of_correct_guesses_with_its_interval():
    record = accuracy_record(SCORES, LABELS)
    assert record["metric"] == "top1" and record["value"] == 50.0 and record["count"] == 4
    assert record["interval"] == pytest.approx([15.0, 85.0], abs=0.1)  # Wilson, 2 of 4


def test_more_guesses_count_more():
    assert accuracy_record(SCORES, LABELS, top=2)["value"] == 75.0
