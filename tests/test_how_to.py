"""What the how-to pages tell to write is not only accepted (`tests/test_docs.py`): it does what they say."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from tests.test_docs import COMMANDS, EXAMPLES, STUDY, WHOLE
from tests.workflow.graphs import copy_tree


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_tree(tmp_path)


def test_a_folder_of_images_is_prepared_as_the_how_to_says(project):
    """Its own set and its own line, with a root that is there."""
    line = next(words for _, words in COMMANDS if words[-1] == "data/birds/manifest.json")
    found = next(yaml.safe_load(text) for page, _, text in EXAMPLES if page == "data.md" and "birds:" in text)
    found["data"]["birds"]["root"] = str(project / "pictures")
    for split, count in (("train", 12), ("val", 5)):
        for number in range(2 * count):
            path = project / "pictures" / split / ("finch", "robin")[number % 2] / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (24, 16), (number, 90, 200)).save(path)
    made = run_workflow(project, STUDY | found, line)
    assert made["data"]["classes"] == ["finch", "robin"]
    assert [made["data"]["splits"][split]["count"] for split in ("train", "val")] == [24, 10]


def test_the_recipe_of_the_how_to_trains(project):
    """The file as it stands there, for two steps."""
    recipe = "config/recipes/block_mae.yaml"
    (project / recipe).write_text(WHOLE[recipe])
    digits = STUDY["data"]["digits"] | {"train_images": 64, "val_images": 16}
    short = {"train.duration": "2 steps", "train.warmup": "1 steps", "train.batch_size": 8}
    study = STUDY | {"data": {"digits": digits}, "runs": {"mine": {"method": "block_mae", "set": short}}}
    line = ["snakemake", "--cores", "1", "--configfile=config/mine.yaml", "results/mine/pretrain/mine-0/manifest.json"]
    made = run_workflow(project, study, line)
    assert made["settings"]["options"]["mask_kind"] == "block" and "files/encoder.safetensors" in made["artefacts"]


def run_workflow(project: Path, study: dict[str, Any], line: list[str]) -> dict[str, Any]:
    """Give a line that makes a manifest, for a study of one's own, and read what it made."""
    (project / "config/mine.yaml").write_text(yaml.safe_dump(study))
    environment = os.environ | {"PYTHONPATH": str(project)}
    done = subprocess.run([sys.executable, "-m", *line], cwd=project, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((project / line[-1]).read_text())
