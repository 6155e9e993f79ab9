"""Of several processes on one cell one works; the others wait for it and end well with its result.

pytest -m slow tests/workflow/test_crowds.py        two hundred times five processes
"""

import subprocess

import pytest

from tests.crowd import crowds
from tests.faults import project

ALONE = subprocess.run(["unshare", "--pid", "--mount", "--fork", "true"], capture_output=True).returncode != 0
NAMESPACES = [False, pytest.param(True, marks=pytest.mark.skipif(ALONE, reason="no rights to a namespace"))]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return project(tmp_path_factory.mktemp("crowds") / "whole")


def check(whole, stage, times, namespaces):
    found = crowds(whole, stage, times, namespaces)
    bad = [one for one in found if not one["good"]]
    assert len(found) == times and not bad, bad
    assert any(one["waited"] for one in found)


@pytest.mark.parametrize("namespaces", NAMESPACES)
def test_five_processes_on_one_cell(whole, namespaces):
    check(whole, "knn", 1, namespaces)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("namespaces", NAMESPACES)
def test_five_processes_a_hundred_times(whole, namespaces):
    check(whole, "knn", 90, namespaces)
    check(whole, "pretrain", 10, namespaces)
