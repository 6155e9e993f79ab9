"""Times that agree with contents, whatever order a checkout left them in."""

import json
import os
import random
from pathlib import Path

import pytest

from pipeline import manifest
from pipeline.freshness import TIMESTAMP, carrier, true_times
from pipeline.graph import Graph
from tests.small import PROTOCOLS, changed, load, publish, publish_all, taught, write_recipe, write_study
from tests.small import cell as cell_of
from tests.small import folder as folder_of

HOUR = 3600


@pytest.fixture
def study(project, monkeypatch):
    """Every cell published; `mae` learns from `random`, and a report of it all."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    write_study(project, taught(project, "mae-r50"))
    study = load()
    cells = publish_all(study)
    report = Path("reports/small")
    (report / "tables").mkdir(parents=True)
    (report / "index.html").write_text("page")
    (report / "tables" / TIMESTAMP).touch()  # as Snakemake leaves it in folders that it made
    paths = [cell.folder / "manifest.json" for cell in cells]
    inputs = {str(path): {"sha256": manifest.sha256(path)} for path in paths}
    (report / "manifest.json").write_text(json.dumps({"format": 1, "inputs": inputs}))
    return study


def shuffle(seed: int) -> None:
    """Give everything another time, as `dvc checkout`, `git clone` and `cp` do."""
    rng, now = random.Random(seed), Path("config/small.yaml").stat().st_mtime
    for top in ("data", "results", "reports"):
        for path in [Path(top), *sorted(Path(top).rglob("*"))]:
            os.utime(path, (now - rng.random() * HOUR,) * 2)


def time_of(path: Path) -> int:
    carrier = path / TIMESTAMP
    return (carrier if carrier.exists() else path).stat().st_mtime_ns


def settle(study) -> None:
    """What a real run does before it looks at any time."""
    for path, time in true_times(Graph(study)).items():
        os.utime(carrier(path), ns=(time, time))


def edges(study) -> list[tuple[Path, Path]]:
    """Every (input, output) of the study: what Snakemake compares."""
    found = []
    for stage, run, seed in study.cells():
        cell = cell_of(study, stage, run, seed)
        inputs = [cell.data / "manifest.json"]
        inputs += [path.parent.parent / "manifest.json" for path in (cell.teacher,) if path]
        inputs += [cell.encoder.parent.parent / "manifest.json"] if stage != "pretrain" else []
        found += [(before, cell.folder / "manifest.json") for before in inputs]
        found += [(cell.folder / "manifest.json", path) for path in Path("reports/small").iterdir()]
    return found


def outdated(study) -> set[Path]:
    return {after.parent for before, after in edges(study) if time_of(before) > time_of(after)}


def test_in_any_order_of_times_nothing_is_out_of_date(study):
    for seed in range(20):
        shuffle(seed)
        assert len(outdated(study)) > 3, "the shuffle must have left something to settle"
        settle(study)
        assert outdated(study) == set()


def test_what_is_in_order_is_left_alone(study):
    shuffle(0)
    settle(study)
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    settle(study)
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before


def test_contents_are_never_touched(study):
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    shuffle(1)
    settle(study)
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("seed", range(3))
def test_what_was_made_from_other_data_is_out_of_date_even_where_it_looks_newer(study, seed):
    publish(cell_of(study, "prepare", "scenes"), "other scenes")
    shuffle(seed)
    settle(study)
    expected = {folder_of(study, *cell) for cell in study.cells() if cell[0] == "detect"}
    assert outdated(study) == expected | {Path("reports/small")}


def test_what_was_made_by_another_teacher_is_out_of_date(study):
    publish(cell_of(study, "pretrain", "mae-r50", 1), "another teacher")
    shuffle(0)
    settle(study)
    expected = {folder_of(study, "pretrain", "mae", 1), folder_of(study, "knn", "mae-r50", 1)}
    assert outdated(study) == expected | {Path("reports/small")}


def test_what_was_made_with_other_numbers_is_out_of_date(study, project):
    write_recipe(project / "config/tasks/knn.yaml", PROTOCOLS["knn"], version=2)
    shuffle(0)
    changed_study = load()
    settle(changed_study)
    assert outdated(changed_study) == {folder_of(changed_study, *c) for c in changed_study.cells() if c[0] == "knn"}


def test_more_loader_processes_make_nothing_out_of_date(study, project):
    content = taught(project, "mae-r50")
    write_study(project, changed(content, "runs/mae-r50/set", {"options.mask_ratio": 0.5, "train.num_workers": 4}))
    settle(load())
    assert outdated(load()) == set()
    write_study(project, changed(content, "runs/mae-r50/set", {"options.mask_ratio": 0.6}))
    settle(load())
    assert outdated(load()) == {folder_of(study, "pretrain", "mae-r50", seed) for seed in (0, 1)}


def test_what_is_not_there_or_torn_stops_nobody(study):
    torn = [folder_of(study, "pretrain", run, 0) / "manifest.json" for run in ("random", "mae")]
    torn.append(folder_of(study, "knn", "mae", 1) / "manifest.json")
    for path, text in zip(torn, ["", "[]", '{"inputs": {"data": 7}}'], strict=True):
        path.write_text(text)
    (folder_of(study, "pretrain", "mae", 1) / "manifest.json").unlink()
    Path("data/scenes/manifest.json").unlink()
    shuffle(0)
    kept = {path: time_of(path) for path in torn}
    settle(study)
    assert {path: time_of(path) for path in torn} == kept
    late = folder_of(study, "knn", "random", 1)
    assert time_of(late / "manifest.json") >= time_of(Path("data/digits/manifest.json")), "the rest is settled"


def test_a_study_that_was_never_run_is_settled(project):
    settle(load())
    assert not Path("results").exists()
