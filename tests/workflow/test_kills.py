"""Killed at any operation on a file and run again, a stage ends with the bytes of one that was left in peace.

pytest -m slow tests/workflow/test_kills.py        every operation, an hour or so
"""

import pytest

from tests.faults import STAGES, killed, project, sample

SAMPLED = 3


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return project(tmp_path_factory.mktemp("kills") / "whole")


def check(whole, stage, moments):
    found = killed(whole, stage, moments)
    assert [one["moment"] for one in found] == moments
    assert all(one["killed"] for one in found), "the stage no longer does as much with files as it did uninterrupted"
    bad = [one for one in found if not one["good"] or one["repeated"]]
    assert not bad, bad
    return found


def count(whole, stage):
    return int((whole / f"{stage}.count").read_text())


@pytest.mark.parametrize("stage", STAGES)
def test_killed_at_some_operations(whole, stage):
    number = count(whole, stage)
    late = number - 12  # in the midst of publishing
    check(whole, stage, sorted({*sample(number - 1, SAMPLED), late}))


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("stage", STAGES)
def test_killed_at_every_operation(whole, stage):
    found = check(whole, stage, list(range(1, count(whole, stage))))
    assert any(one["published"] for one in found) and not all(one["published"] for one in found)
