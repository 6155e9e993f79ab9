"""Cells: what a node of the graph reads, where it works, and what it leaves when it ends well or badly."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from pipeline import manifest
from pipeline.cell import Cell
from pipeline.config import ConfigError, load_study
from pipeline.manifest import ManifestError
from tests.small import (
    MAE,
    PROTOCOLS,
    SCENES,
    STUDY,
    changed,
    load,
    publish,
    publish_all,
    taught,
    write_recipe,
    write_study,
)
from tests.small import cell as cell_of


def test_what_a_cell_reads_and_where_it_publishes(project):
    write_study(project, taught(project, "random"))
    study = load()
    prepare, pretrain, detect = cell_of(study, "prepare", "scenes"), cell_of(study, "pretrain", "mae", 1), None
    assert prepare.folder == Path("data/scenes") and prepare.settings == {"source": "scenes_coco", **SCENES}
    assert prepare.node.command == "python -m stages.prepare --study config/small.yaml --data scenes"
    assert (pretrain.folder, pretrain.data) == (Path("results/small/pretrain/mae-1"), Path("data/digits"))
    assert pretrain.teacher == Path("results/small/pretrain/random-1/files/encoder.safetensors")
    assert cell_of(study, "pretrain", "mae-r50", 1).teacher is None
    detect = cell_of(study, "detect", "mae", 0)
    assert (detect.folder, detect.data) == (Path("results/small/detect/mae-0"), Path("data/scenes"))
    learned = Path("results/small/pretrain/random-0/files/encoder.safetensors")
    assert detect.encoder_teacher == learned and cell_of(study, "knn", "random", 0).encoder_teacher is None
    assert detect.encoder == Path("results/small/pretrain/mae-0/files/encoder.safetensors")
    assert detect.node.command == "python -m stages.evaluate --study config/small.yaml --task detect --run mae --seed 0"
    assert detect.settings == study.settings("detect", "mae") and detect.teacher is None


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("pretrain", "mea", 0), r"'mea' is not among the runs of config/small.yaml; available: \['random', 'mae', "),
        (("pretrain", "mae", 2), r"2 is not among the seeds of mae; available: \[0, 1\]"),
        (("pretrain", "mae"), r"None is not among the seeds of mae"),
        (("detect", "mae", 1), r"1 is not among the seeds of detect for mae; available: \[0\]"),
        (("detect", "mae-r50", 0), r"'mae-r50' is not among the runs of task detect; available: \['random', 'mae'\]"),
        (("segment", "mae", 0), r"'segment' is not among the tasks of config/small.yaml; .*\['knn', 'detect'\]"),
        (("prepare", "ground"), r"'ground' is not among the data .*\['digits', 'scenes'\]"),
    ],
)
def test_what_the_study_lacks_is_told(project, arguments, told):
    with pytest.raises(ConfigError, match=told):
        cell_of(load(), *arguments)


def test_a_cell_names_its_inputs_by_content(project):
    study = load(write_study(project, taught(project, "random")).stem)
    digest = {cell.folder: manifest.read(cell.folder / "manifest.json")["digest"] for cell in publish_all(study)}

    def entry(folder):
        return {"manifest": f"{folder}/manifest.json", "digest": digest[Path(folder)]}

    mae = "results/small/pretrain/mae-0"
    assert cell_of(study, "prepare", "digits").inputs == {}
    assert cell_of(study, "pretrain", "mae", 0).inputs == {
        "data": entry("data/digits"),
        "teacher": entry("results/small/pretrain/random-0"),
    }
    assert cell_of(study, "detect", "mae", 0).inputs == {"data": entry("data/scenes"), "encoder": entry(mae)}
    assert (
        manifest.read("results/small/detect/mae-0/manifest.json")["inputs"] == cell_of(study, "detect", "mae", 0).inputs
    )


def test_an_input_that_was_not_made_is_told(project):
    with pytest.raises(ManifestError, match=r"data/digits/manifest.json is missing; the stage that makes it"):
        _ = cell_of(load(), "pretrain", "mae", 0).work
    assert not list(Path("work").rglob("*"))


def key(cell: Cell) -> str:
    return cell.work.name.rpartition("-")[2]


def test_only_the_same_work_is_resumed(project):
    study = load()
    publish_all(study)
    before = {stage: key(cell_of(study, stage, "mae", 0)) for stage in ("pretrain", "knn", "detect")}
    again = {stage: key(cell_of(load(), stage, "mae", 0)) for stage in before}
    assert again == before and len(set(before.values())) == 3
    assert cell_of(study, "knn", "mae", 0).work.parent == Path("work/small/knn")
    assert key(cell_of(study, "pretrain", "mae", 1)) != before["pretrain"], "another seed"
    assert key(cell_of(study, "pretrain", "mae-r50", 0)) != before["pretrain"], "other settings"

    write_recipe(project / "config/tasks/knn.yaml", PROTOCOLS["knn"], version=2)
    assert key(cell_of(load(), "knn", "mae", 0)) != before["knn"], "a change of numerics raises the version"

    publish(cell_of(study, "prepare", "digits"), "other pictures")
    after = {stage: key(cell_of(study, stage, "mae", 0)) for stage in before}
    assert after["pretrain"] != before["pretrain"] and after["detect"] == before["detect"], "only what reads them"


FREE = {"train.num_workers": 3, "train.checkpoint_every": 7, "train.log_every": 1, "train.compile": True}


def test_what_does_not_change_the_result_leaves_work_and_results_where_they_are(project):
    publish_all(load())
    before = {stage: key(cell_of(load(), stage, "mae", 0)) for stage in ("pretrain", "knn")}
    write_study(project, changed(STUDY, "runs/mae/set", FREE))
    assert {stage: key(cell_of(load(), stage, "mae", 0)) for stage in before} == before
    again = cell_of(load(), "pretrain", "mae", 0)
    assert again.settings["train"]["num_workers"] == 3 and again.finished()
    write_study(project, changed(STUDY, "runs/mae/set", FREE | {"train.clip_norm": 1.0}))
    other = cell_of(load(), "pretrain", "mae", 0)
    assert key(other) != before["pretrain"] and not other.finished()


@pytest.mark.parametrize("drop_path", [0.0, 0.1])
@pytest.mark.parametrize("per_sample", [False, True])
def test_micro_batches_are_part_of_a_work_where_they_change_it(project, per_sample, drop_path):
    section = MAE | {"train": MAE["train"] | {"drop_path": drop_path}}
    write_recipe(project / "config/recipes/mae.yaml", section, per_sample=per_sample)
    publish(cell_of(load(), "prepare", "digits"))
    before = key(cell_of(load(), "pretrain", "mae", 0))
    write_study(project, changed(STUDY, "runs/mae/set", {"train.accumulate": 4}))
    assert (key(cell_of(load(), "pretrain", "mae", 0)) == before) == (per_sample and not drop_path)


def test_the_key_does_not_know_the_name_of_the_study(project):
    publish(cell_of(load(), "prepare", "digits"))
    write_study(project, STUDY, "copy")
    cells = [cell_of(load(name), "pretrain", "mae", 0) for name in ("small", "copy")]
    assert key(cells[0]) == key(cells[1]) and cells[0].work != cells[1].work


def test_publishing_moves_the_files_writes_the_manifest_and_tidies_up(project):
    study = load()
    publish(cell_of(study, "prepare", "digits"))
    cell = cell_of(study, "pretrain", "mae", 0)
    (cell.files / "encoder.safetensors").write_text("weights")
    (cell.work / "checkpoint").write_text("not to be published")
    cell.fail(RuntimeError("an attempt that ended badly"))
    record = {"metric": "top1", "value": 61.2}
    picture = {"path": "files/a.png", "caption": "a"}
    cell.publish(records=[record], pictures=[picture], cost={"seconds": 2.5, "device": "cpu"}, extra={"more": 1})

    found = manifest.verify(cell.folder / "manifest.json")
    told = {key: found[key] for key in ("stage", "study", "run", "method", "seed", "command", "extra")}
    assert told == {
        "stage": "pretrain", "study": "small", "run": "mae", "method": "mae", "seed": 0, "extra": {"more": 1},
        "command": "python -m stages.pretrain --study config/small.yaml --run mae --seed 0",
    }  # fmt: skip
    assert found["settings"] == study.settings("pretrain", "mae") and found["inputs"] == cell.inputs
    assert (found["records"], found["pictures"]) == ([record], [picture])
    assert found["cost"]["seconds"] == 2.5 and 0 < found["cost"]["peak_memory_gib"] < 64
    assert found["provenance"]["started"] <= found["provenance"]["finished"]
    assert set(found["artefacts"]) == {"files/encoder.safetensors"}
    assert not cell.work.exists() and not cell.failure.exists()


def test_a_data_set_has_neither_run_nor_seed(project):
    found = publish(cell_of(load(), "prepare", "digits"))
    assert found["stage"] == "prepare" and not {"study", "run", "seed", "method"} & set(found)
    assert found["inputs"] == {} and Path("data/digits/files/pack.bin").exists()


def test_a_failure_is_left_for_the_report_and_gone_after_success(project):
    study = load()
    cell = cell_of(study, "prepare", "digits")
    cell.fail(ValueError("data.digits.root is '/nowhere'"))
    told = json.loads(Path("work/data/digits.failure.json").read_text())
    assert (told["error"], told["command"]) == ("data.digits.root is '/nowhere'", cell.node.command) and told["when"]
    publish(cell)
    assert not cell.failure.exists()
    cell = cell_of(study, "knn", "mae", 1)
    cell.fail(KeyError())
    assert json.loads(Path("work/small/knn/mae-1.failure.json").read_text())["error"] == "KeyError"


def test_a_disk_too_full_for_the_failure_does_not_hide_it(project, monkeypatch):
    def refuse(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    cell = cell_of(load(), "prepare", "digits")
    monkeypatch.setattr(os, "fsync", refuse)
    cell.fail(ValueError("first things first"))
    assert not cell.failure.exists() and not list(Path("work/data").glob(".*"))


def test_what_an_attempt_left_is_found_by_the_next(project):
    first = cell_of(load(), "prepare", "digits")
    (first.files / "half").write_text("half")
    (first.work / "checkpoint").write_text("step 7")
    second = cell_of(load(), "prepare", "digits")
    assert (second.files / "half").exists() and (second.work / "checkpoint").read_text() == "step 7"
    shutil.rmtree("work")


def test_the_study_may_be_named_by_any_path(project):
    cell = cell_of(load_study(project / "config/small.yaml"), "pretrain", "mae", 0)
    assert cell.folder == Path("results/small/pretrain/mae-0")
