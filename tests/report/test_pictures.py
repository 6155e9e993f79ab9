"""Pictures travel inside the page, whole where small and within one budget."""

import base64
import hashlib
import io
import json

import numpy as np
from PIL import Image

from pipeline import manifest
from pipeline.report.build import build
from pipeline.report.grid import read_grid
from pipeline.report.pictures import broken_pictures, find_pictures, group_pictures, write_pictures
from tests.small import folder as folder_of

from .made import make_study, publish


def decode(uri):
    return base64.b64decode(uri.partition(",")[2])


def test_one_seed_of_each_run_is_shown_unchanged_when_small(study):
    pictures = find_pictures(read_grid(study))
    shown = [(picture.stage, picture.run) for picture in pictures]
    assert len(shown) == len(set(shown)) == 3 + 4 + 4  # pretrain of three MAEs; detect and segment lack one run each
    assert all(picture.seed == 0 for picture in pictures)
    first = pictures[0]
    known = manifest.read(folder_of(study, "pretrain", "mae", 0) / "manifest.json")["artefacts"]["files/picture.png"]
    assert first.uri.startswith("data:image/png;base64,")
    assert hashlib.sha256(decode(first.uri)).hexdigest() == known["sha256"]


def test_what_makes_a_file_of_a_picture_tells_whether_it_is_whole(study, monkeypatch, tmp_path):
    """Each was decoded once more to tell."""
    opened, open_ = [], Image.open
    monkeypatch.setattr(Image, "open", lambda *given, **more: opened.append(given) or open_(*given, **more))
    grid = read_grid(study)
    broken, written = broken_pictures(grid), write_pictures(grid, tmp_path)
    assert not broken and len(written) == len(opened) == 3 + 4 + 4


def test_large_pictures_are_scaled_into_the_budget(study, tmp_path):
    folder = folder_of(study, "pretrain", "mae", 0)
    noise = np.random.default_rng(0).integers(0, 255, (1200, 1600, 3), np.uint8)
    publish(study, "pretrain", "mae", 0)
    Image.fromarray(noise).save(folder / "files/picture.png")
    whole = manifest.read(folder / "manifest.json")
    whole["artefacts"]["files/picture.png"]["sha256"] = manifest.sha256(folder / "files/picture.png")
    del whole["seal"]  # as in manifests of before there was one
    manifest.write_atomic(folder / "manifest.json", json.dumps(whole).encode())
    budget = 400_000
    pictures = find_pictures(read_grid(study), budget)
    assert sum(len(picture.uri) for picture in pictures) <= budget
    assert pictures[0].uri.startswith("data:image/webp")
    with Image.open(io.BytesIO(decode(pictures[0].uri))) as image:
        assert image.size == pictures[0].size
        assert max(image.size) < 1600
    beside = write_pictures(read_grid(study), tmp_path)[0]
    with Image.open(tmp_path.parent / beside.uri) as image:
        assert image.format == "JPEG" and image.size == beside.size and max(image.size) == 1400
        assert image.layer[1][1:3] == (1, 1), "colours are as fine as brightness"


def test_what_cannot_fit_is_left_to_the_first_run_of_each_kind(study, monkeypatch):
    shown = [(picture.stage, picture.run) for picture in find_pictures(read_grid(study), budget=1)]
    assert shown == [
        ("pretrain", "mae"), ("detect", "supervised"), ("detect", "mae"),
        ("segment", "random"), ("segment", "supervised"), ("segment", "mae"),
    ]  # fmt: skip
    assert build(study).read_text().count("<img ") == 11
    monkeypatch.setattr("pipeline.report.build.LIMIT", 1)
    assert build(study).read_text().count("<img ") == 6


def test_a_study_without_pictures_has_none(root):
    assert find_pictures(read_grid(make_study())) == []


def test_snapshots_stand_apart_in_the_order_of_their_steps(study):
    whole = publish(study, "pretrain", "mae", 0)
    folder = folder_of(study, "pretrain", "mae", 0)
    steps = (1000000, 0, 125)
    for step in steps:
        path = f"files/snapshot-{step:06d}.png"
        Image.new("RGB", (8, 8), (step % 255, 0, 0)).save(folder / path)
        whole["artefacts"][path] = {"sha256": manifest.sha256(folder / path), "bytes": 1}
        whole["pictures"].append({"path": path, "caption": f"step {step} of 1000000: masks"})
    del whole["seal"]  # as in manifests of before there was one
    manifest.write_atomic(folder / "manifest.json", json.dumps(whole).encode())
    groups = dict(group_pictures(study, find_pictures(read_grid(study))))
    assert list(groups)[:2] == ["Pretraining", "mae: masks over training"]
    assert [picture.step for picture in groups["mae: masks over training"]] == [0, 125, 1000000]
    assert [picture.run for picture in groups["Pretraining"]] == ["mae", "mae-r50", "mae-r90"]
    page = build(study).read_text()
    at = [
        page.index(text) for text in (">Pretraining</h3>", "mae: masks over training</h3>", "step 0 of", "step 125 of")
    ]
    assert at == sorted(at)
