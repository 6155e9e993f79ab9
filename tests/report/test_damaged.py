"""A report over damaged and incomplete manifests says so in their cells and goes on."""

import copy
import hashlib
import json
from pathlib import Path

import pytest

from pipeline.graph import Graph
from pipeline.report.build import build
from pipeline.report.grid import read_grid
from tests.hostile.mutations import mutations

from .made import make_study, publish, with_runs

CELL = ("knn", "mae", 0)
# Keys without which a number cannot be believed, or shown; each of the others may be missing.
NEEDED = ("format", "settings", "records", "digest", "artefacts")


def manifest_of(study, cell=CELL):
    return Graph(study).node(*cell).manifest


def text_of(page: Path) -> str:
    return page.read_text()


def test_every_way_to_damage_a_manifest_is_told_or_harmless(study):
    """Each key gone and each of another type, at every depth; the grid is read, which all pages are views of."""
    path, study = manifest_of(study), with_runs(study, study.runs["mae"])
    whole = json.loads(path.read_text())
    tried = 0
    for name, changed in mutations(whole):
        path.write_text(json.dumps(changed))
        (outcome,) = read_grid(study).select(*CELL[:2])[:1]
        assert outcome.status in ("done", "damaged"), name
        if name in {f"{key} is gone" for key in NEEDED}:
            assert outcome.status == "damaged", name
        if outcome.status == "damaged":
            assert str(path) in outcome.error and "\n" not in outcome.error, (name, outcome.error)
        tried += 1
    assert tried > 100


DAMAGED = ["", "{", "[]", "null", '{"format": 1}', "\x00" * 100, "[" * 100_000]


@pytest.mark.parametrize("content", DAMAGED, ids=map(str, range(len(DAMAGED))))
def test_the_report_goes_on(study, content):
    path = manifest_of(study)
    path.write_text(content)
    page = text_of(build(study))
    assert f"{'/'.join(CELL[:2])}-0 is damaged: " in page and ">1</b> damaged" in page
    assert str(path) in page


def test_a_task_all_of_which_is_damaged_says_so_in_its_cells(study):
    for seed in (0, 1):
        manifest_of(study, ("knn", "mae", seed)).write_text("{")
    build(study)
    rows = json.loads(Path("reports/made/tables/task-knn.json").read_text())["rows"]
    (row,) = [row for row in rows if "mae" in (row["run"], (row["run"] or {}))]
    assert "damaged" in json.dumps(row)
    assert "damaged" in Path("reports/made/summary.txt").read_text()


def test_a_value_of_null_is_told_in_its_cell(study):
    cell = ("finetune", "mae", 0)
    whole = json.loads(manifest_of(study, cell).read_text())
    records = copy.deepcopy(whole["records"])
    records[0]["value"] = records[0]["interval"] = None
    publish(make_study(), *cell, records=records)
    page = text_of(build(study))
    assert "finetune/mae-0 has no value of top1; run it again." in page
    assert "damaged" in Path("reports/made/tables/task-finetune.md").read_text()


def test_a_damaged_set_is_told(study):
    path = study.data["digits"].folder / "manifest.json"
    path.write_text('{"format": 1, "digest": "x", "artefacts": {}, "data": {"splits": 3}}')
    assert "damaged</span>: data.splits" in text_of(build(study))


def test_a_picture_that_cannot_be_shown_is_left_out_and_told(study):
    path = manifest_of(study, ("pretrain", "mae", 0))
    whole = json.loads(path.read_text())
    shown = whole["pictures"][0]["path"]
    (path.parent / shown).write_bytes(b"")
    whole["artefacts"][shown]["sha256"] = hashlib.sha256(b"").hexdigest()
    del whole["seal"]  # as in manifests of before there was one
    path.write_text(json.dumps(whole))
    assert f"pretrain/mae-0: {shown} is damaged and left out" in text_of(build(study))
