"""Clone, pull, plan: nothing is to be done, whatever times the checkout left; and what changed is found.

The demo study is published without training, by the same code as always; Snakemake and DVC are the real ones.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.config import load_study
from pipeline.manifest import VERIFIED
from pipeline.report.build import build
from tests.small import cell as cell_of
from tests.small import publish, publish_all
from tests.workflow.graphs import copy_tree

NOTHING = "Nothing to be done"
TOPS = ("data", "results", "reports")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The demo study as a run leaves it, but for Snakemake's own records."""
    root = copy_tree(tmp_path_factory.mktemp("finished"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(os, "fsync", lambda descriptor: None)
        study = load_study("config/demo.yaml")
        publish_all(study)
        build(study)
    return root


def shuffle_times(root: Path, seed: int) -> None:
    rng, now = random.Random(seed), (root / "Snakefile").stat().st_mtime
    for top in TOPS:
        for path in [root / top, *sorted((root / top).rglob("*"))]:
            os.utime(path, (now - rng.random() * 3600,) * 2)


def run(root: Path, *command: str) -> str:
    """What a command says; its exit status must be 0."""
    environment = os.environ | {"DVC_NO_ANALYTICS": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}
    environment |= {
        f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    done = subprocess.run(
        [sys.executable, "-m", *command] if command[0] != "git" else command,
        cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}"
    return done.stdout


def planned(said: str) -> dict[str, int]:
    """Jobs by rule, of a dry run."""
    return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", said, re.MULTILINE) if rule != "total"}


def test_a_copy_with_other_times_is_up_to_date_until_contents_change(finished, tmp_path, monkeypatch):
    clone = tmp_path / "clone"
    shutil.copytree(finished, clone, ignore=shutil.ignore_patterns(".snakemake", ".dvc"))
    shuffle_times(clone, 0)
    assert NOTHING in run(clone, "snakemake", "-n", "all")

    monkeypatch.chdir(clone)
    study = load_study("config/demo.yaml")
    publish(cell_of(study, "prepare", "digit-scenes-coco"), "other scenes")
    knn = yaml.safe_load(Path("config/tasks/knn.yaml").read_text())
    Path("config/tasks/knn.yaml").write_text(yaml.safe_dump(knn | {"version": knn["version"] + 1}))
    shuffle_times(clone, 1)  # so that what is out of date may look newer than its inputs
    changed = {name for name, task in study.tasks.items() if task.protocol in ("detect", "knn")}
    expected = len([cell for cell in study.cells() if cell[0] in changed])
    before = {path: path.stat().st_mtime_ns for top in TOPS for path in Path(top).rglob("*")}
    assert planned(run(clone, "snakemake", "-n", "all")) == {"evaluate": expected, "report": 1, "all": 1}
    after = {path: path.stat().st_mtime_ns for top in TOPS for path in Path(top).rglob("*")}
    assert after == before, "a dry run changes nothing"


def test_a_clone_that_pulls_is_up_to_date_for_both_tools(finished, tmp_path):
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    shutil.copytree(finished, origin, ignore=shutil.ignore_patterns(".snakemake", ".dvc"))
    run(origin, "git", "init", "-q")
    run(origin, "dvc", "init", "-q")
    run(origin, "dvc", "remote", "add", "-q", "-d", "store", "../store")
    said = run(origin, "stages.record", "--study", "config/demo.yaml")
    num_stages = len(yaml.safe_load((origin / "dvc.lock").read_text())["stages"])
    assert num_stages == len(list(load_cells(origin))) and f"dvc.lock records {num_stages} stages" in said
    run(origin, "dvc", "push", "-q")
    run(origin, "git", "add", "-A")
    assert (
        not run(origin, "git", "ls-files", "data", "results", "reports")
        .replace("reports/templates", "")
        .count("manifest")
    )
    run(origin, "git", "commit", "-q", "-m", "a finished study")

    run(tmp_path, "git", "clone", "-q", "origin", "clone")
    assert not (clone / "results").exists()
    run(clone, "dvc", "pull", "-q")
    there, pulled = ({path.relative_to(top) for path in top.glob("results/**/*")} for top in (origin, clone))
    assert pulled == {path for path in there if path.name != VERIFIED}
    shuffle_times(clone, 2)
    assert NOTHING in run(clone, "snakemake", "-n", "all")
    assert "up to date" in run(clone, "dvc", "status")


def load_cells(root: Path):
    """The nodes of the graph, by an independent count."""
    raw = yaml.safe_load((root / "config/demo.yaml").read_text())
    yield from raw["data"]
    seeds = {run: set(entry.get("seeds", raw["seeds"])) for run, entry in raw["runs"].items()}
    yield from ((run, seed) for run in seeds for seed in seeds[run])
    for task in raw["tasks"].values():
        yield from ((run, seed) for run in task["runs"] for seed in seeds[run] & set(task["seeds"]))
    if "report" in yaml.safe_load((root / "dvc.yaml").read_text())["stages"]:
        yield "report"
