"""Pictures travel inside the page, whole where small and within one budget."""

import base64
import hashlib
import io
import json

import numpy as np
from PIL import Image

from pipeline import manifest
from pipeline.report.grid import read_grid
from pipeline.report.pictures import find_pictures

from .made import make_study, publish


def decode(uri):
    return base64.b64decode(uri.partition(",")[2])


def test_one_seed_of_each_run_is_shown_unchanged_when_small(study):
    pictures = find_pictures(read_grid(study))
    shown = [(picture.stage, picture.run) for picture in pictures]
    assert len(shown) == len(set(shown)) == 3 + 4 + 4  # pretrain of three MAEs; detect and segment lack one run each
    assert all(picture.seed == 0 for picture in pictures)
    first = pictures[0]
    known = manifest.read(study.folder("pretrain", "mae", 0) / "manifest.json")["artefacts"]["files/picture.png"]
    assert first.uri.startswith("data:image/png;base64,")
    assert hashlib.sha256(decode(first.uri)).hexdigest() == known["sha256"]


def test_large_pictures_are_scaled_into_the_budget(study):
    folder = study.folder("pretrain", "mae", 0)
    noise = np.random.default_rng(0).integers(0, 255, (1200, 1600, 3), np.uint8)
    publish(study, "pretrain", "mae", 0)
    Image.fromarray(noise).save(folder / "files/picture.png")
    whole = manifest.read(folder / "manifest.json")
    whole["artefacts"]["files/picture.png"]["sha256"] = manifest.sha256(folder / "files/picture.png")
    manifest.write_atomic(folder / "manifest.json", json.dumps(whole).encode())
    budget = 400_000
    pictures = find_pictures(read_grid(study), budget)
    assert sum(len(picture.uri) for picture in pictures) <= budget
    assert pictures[0].uri.startswith("data:image/webp")
    with Image.open(io.BytesIO(decode(pictures[0].uri))) as image:
        assert image.size == pictures[0].size
        assert max(image.size) < 1600


def test_a_study_without_pictures_has_none(root):
    assert find_pictures(read_grid(make_study())) == []
