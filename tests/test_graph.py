"""What of a study can be made where a file of released weights is missing."""

from pathlib import Path

import pytest

from pipeline.config import Study
from pipeline.graph import Graph, Node
from pipeline.report.grid import read_grid
from tests.small import STUDY, cell, changed, load, publish, taught, write_study

FILE = "weights/mae.safetensors"


@pytest.fixture
def study(project) -> Study:
    """`released` waits for the file, and so does `follower`; nothing else is detected with, nor reads the scenes."""
    content = changed(taught(project, "released", "follower"), "tasks/detect/runs", ["released"])
    content["runs"] = {"released": {"method": "mae", "weights": FILE}, **STUDY["runs"], **content["runs"]}
    write_study(project, content)
    return load()


def waiting(graph: Graph) -> set[str]:
    return {node.run for node in graph if node.folder in graph.lacking}


def names(nodes: tuple[Node, ...]) -> set[str]:
    return {node.name for node in nodes}


def test_a_run_without_its_file_waits_with_all_that_reads_it(study):
    graph = Graph(study)
    assert waiting(graph) == {"released", "follower"}
    assert set(graph.lacking.values()) == {FILE}
    assert names(graph.nodes) - names(graph.ready) == {
        "prepare@scenes",
        *(f"{stage}@{run}-{seed}" for stage in ("pretrain", "knn") for run in waiting(graph) for seed in (0, 1)),
        "detect@released-0",
    }


def test_with_the_file_nothing_waits(study):
    Path(FILE).parent.mkdir()
    Path(FILE).write_bytes(b"weights")
    graph = Graph(study)
    assert graph.lacking == {}
    assert graph.ready == graph.nodes


def test_a_result_needs_its_file_no_more(study):
    publish(cell(study, "prepare", "digits"))
    publish(cell(study, "pretrain", "released", 0))
    graph = Graph(study)
    assert graph.node("knn", "released", 0).folder not in graph.lacking
    assert graph.node("knn", "follower", 0).folder not in graph.lacking
    assert graph.lacking[graph.node("knn", "follower", 1).folder] == FILE


def test_the_report_says_which_file_is_wanted(study):
    grid = read_grid(study)
    (outcome,) = grid.select("detect", "released")
    assert (outcome.status, FILE in outcome.error) == ("not run", True)
    assert {outcome.error for outcome in grid.select("knn", "random")} == {""}
