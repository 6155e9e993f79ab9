"""Recording a study in DVC, where there is one."""

import shutil
import subprocess
import sys
from pathlib import Path

from dvc.repo import Repo
from dvc.stage import PipelineStage

from pipeline import plan
from pipeline.graph import Graph
from stages.record import record
from tests.real import environment
from tests.small import cell, folder, load, publish, publish_all
from tests.workflow.graphs import copy_tree


def test_where_nothing_is_versioned_it_says_so_and_a_finished_study_stays_finished(tmp_path):
    root = copy_tree(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "stages.record", "--study", "config/smoke.yaml"],
        cwd=root,
        env=environment(PYTHONPATH=""),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "not recorded: this folder is under no version control" in done.stdout
    assert (root / "dvc/smoke/dvc.yaml").exists()


def test_only_what_has_changed_is_saved_again(project, monkeypatch):
    subprocess.run(["git", "init", "--quiet"], check=True)
    Repo.init().close()
    study = load()
    publish_all(study)
    plan.write(study)
    saved, save = [], PipelineStage.save
    monkeypatch.setattr(PipelineStage, "save", lambda stage, **more: (saved.append(stage.name), save(stage, **more)))
    every = len(list(Graph(study)))
    assert record(plan.dvc_path(study)) == every == len(saved)
    lock = Path("dvc/small/dvc.lock").read_text()

    saved.clear()
    assert record(plan.dvc_path(study)) == every
    assert (saved, Path("dvc/small/dvc.lock").read_text()) == ([], lock)

    shutil.rmtree(folder(study, "knn", "mae", 0))
    publish(cell(study, "knn", "mae", 0), "another")
    assert record(plan.dvc_path(study)) == every
    assert saved == ["knn@mae-0"]
    assert Path("dvc/small/dvc.lock").read_text() != lock
