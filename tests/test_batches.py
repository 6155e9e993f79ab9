"""Which cells may share a job on a cluster."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.batches import HOURS, batch
from pipeline.config import Request
from pipeline.graph import Node


@pytest.fixture
def workflow():
    """What is asked of Snakemake's, in its main process."""
    settings = SimpleNamespace(keep_going=False)
    return SimpleNamespace(parent_groupids={}, remote_exec=False, execution_settings=settings)


@pytest.fixture
def cell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    inputs = {"data": Path("data/digits"), "encoder": Path("results/small/pretrain/mae-0")}
    return Node(study=None, stage="knn", run="mae", seed=0, inputs=inputs, request=Request(gpus=1, hours=HOURS))


def publish(folder):
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")


def test_what_a_cell_asks_and_waits_for_names_its_batch(cell, workflow):
    name = batch(cell, workflow)
    assert name == f"short-1gpu-1cpu-3gib-{HOURS}h-digits-mae-0"
    assert workflow.parent_groupids[name] == "short"
    publish(cell.inputs["data"])
    assert batch(cell, workflow) == f"short-1gpu-1cpu-3gib-{HOURS}h-mae-0"
    publish(cell.inputs["encoder"])
    assert batch(cell, workflow) == f"short-1gpu-1cpu-3gib-{HOURS}h"
    assert not workflow.execution_settings.keep_going


@pytest.mark.parametrize("more", [{"nodes": 2}, {"gpus": 2}, {"hours": HOURS + 1}])
def test_long_and_wide_cells_have_a_job_each(cell, workflow, more):
    assert batch(replace(cell, request=cell.request.model_copy(update=more)), workflow) is None


@pytest.mark.parametrize("stage", ["prepare", "pretrain"])
def test_only_evaluations_share_jobs(cell, workflow, stage):
    assert batch(replace(cell, stage=stage), workflow) is None


def test_a_cell_that_fails_stops_no_other_of_its_job(cell, workflow):
    workflow.remote_exec = True
    batch(cell, workflow)
    assert workflow.execution_settings.keep_going
