"""Steps are cut to the memory that there is, where that changes nothing but the time they take."""

from types import SimpleNamespace

import pytest
import torch

from pipeline.cell import Cell
from pipeline.config import load_study
from pipeline.cost.estimate import GIB
from pipeline.cost.room import make_room
from pipeline.cost.work import work_of
from pipeline.graph import Graph
from stages import pretrain
from tests.real import ROOT


@pytest.fixture
def node(monkeypatch):
    """Pretraining of a run of the paper study."""
    monkeypatch.chdir(ROOT)
    graph = Graph(load_study("config/paper.yaml"))
    return lambda run: graph.node("pretrain", run, 0)


def test_a_step_that_fits_is_left_alone(node):
    assert make_room(node("mae-b"), 64, 80 * GIB) == (1, "")


def test_a_smaller_device_takes_more_micro_batches(node):
    mae = node("mae-h")
    work, (number, told) = work_of(mae.study, "pretrain", "mae-h"), make_room(mae, 16, 24 * GIB)
    each = work.kept * work.batch / 16
    assert number > 1 and each / number + work.states <= 24 * GIB < each / (number / 2) + work.states
    assert f"of each device, which has 24: {number} micro-batches in place of 1, with the same result" in told


def test_the_number_divides_a_devices_share(node, monkeypatch):
    mae = node("mae-h")
    monkeypatch.setattr(type(mae), "settings", {"train": {"batch_size": 60 * 16, "accumulate": 1}})
    monkeypatch.setattr(type(mae), "identity", {"train": {"batch_size": 60 * 16}})
    monkeypatch.setattr("pipeline.cost.room.micro_batches", lambda *_: 8)
    assert make_room(mae, 16, 24 * GIB)[0] == 10


def test_where_micro_batches_change_the_result_their_number_stays(node):
    number, told = make_room(node("clmae-h"), 16, 8 * GIB)
    assert number == node("clmae-h").settings["train"]["accumulate"]
    assert "train.accumulate is" in told and "is a part of this result" in told


def test_a_device_without_room_for_the_weights_is_told_so(node):
    number, told = make_room(node("mae-h"), 16, 4 * GIB)
    assert number == 1 and told.endswith("no number of micro-batches helps; take more devices")


def test_what_has_no_formula_is_left_alone(node):
    assert make_room(node("brep-ssl"), 1, 1.0)[1] == ""


def test_the_stage_asks_the_gpus_that_are_there(node, monkeypatch, capsys):
    cell = Cell(node("mae-l"))
    pretrain._make_room(cell)
    assert cell.settings == cell.node.settings, "on CPUs nothing is changed"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=32 * GIB))
    pretrain._make_room(cell)
    number = cell.settings["train"].pop("accumulate")
    assert number > 1 and f"{number} micro-batches in place of 1" in capsys.readouterr().out
    expected = cell.node.settings
    assert expected["train"].pop("accumulate") == 1 and cell.settings == expected
