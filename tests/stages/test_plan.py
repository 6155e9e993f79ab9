"""The stage that resolves a study for dvc.yaml."""

import sys

import pytest

from stages import plan


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["plan", "--study", "config/small.yaml", *arguments])
    plan.main()


def test_it_writes_the_plan_and_checks_it(project, monkeypatch, capsys):
    with pytest.raises(SystemExit, match=r"^error: config/plans/small\.\w+ is not what config/small.yaml .* say now"):
        run(monkeypatch, "--check")
    run(monkeypatch)
    written = capsys.readouterr().out.split()
    assert written == ["config/plans/small.json", "dvc/small/dvc.yaml"]
    before = [(project / path).read_text() for path in written]
    run(monkeypatch, "--check")
    assert [(project / path).read_text() for path in written] == before and capsys.readouterr().out == ""


def test_a_mistake_in_the_study_is_told(project, monkeypatch):
    (project / "config/small.yaml").write_text("runs: {}")
    with pytest.raises(SystemExit, match=r"^error: study config/small.yaml lacks 'scale'"):
        run(monkeypatch)
