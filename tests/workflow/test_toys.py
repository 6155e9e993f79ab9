"""The house is open: a system of a new kind joins by new files alone, and both workflow tools run it.

Source, kind, family of encoders, method, recipe, task, protocol and study are written into a copy of the tree.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.workflow.graphs import copy_tree

FILES = {
    "pipeline/data/sources/numbers/__init__.py": '"""Sources of numbers."""\n',
    "pipeline/data/sources/numbers/counted.py": '''
"""Even and odd numbers, each beside a little noise."""
import json
from dataclasses import dataclass

@dataclass(frozen=True, kw_only=True)
class Options:
    count: int

def prepare(options, work, files):
    (files / "numbers.json").write_text(json.dumps(list(range(options.count))))
    none = {"count": 0, "first": []}
    splits = {"train": {"count": options.count}, "val": {"count": options.count}}
    return {"splits": splits, "classes": ["even", "odd"], "rejects": none, "notes": none}
''',
    "pipeline/data/kinds/numbers.py": '''
"""Numbers: their last four binary digits."""
import json
import torch
from PIL import Image

KEY = "numbers"

class Numbers(torch.utils.data.Dataset):
    unit = "numbers"

    def __init__(self, folder):
        self.values = torch.tensor(json.loads((folder / "files/numbers.json").read_text()))
        self.labels, self.classes = self.values % 2, ["even", "odd"]

    def __len__(self):
        return len(self.values)

    def __getitems__(self, samples):
        epoch, index = torch.tensor(samples).unbind(1)
        digits = (self.values[index][:, None] >> torch.arange(4) & 1).float()
        return {"numbers": digits, "labels": self.labels[index], "epoch": epoch, "index": index}

def open_train(folder, settings, seed):
    return Numbers(folder)

def first_of_each(folder, settings, seed, num):
    return Numbers(folder).__getitems__([(0, 0), (0, 1)])

def montage(rows):
    return Image.new("RGB", (8, 8))
''',
    "config/models/line.yaml": "takes: [numbers]\ngives: [features]\nmodels: {line_micro: {width: 3}}\n",
    "pipeline/nn/families/line.py": '''
"""One linear map."""
from torch import nn

class Line(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.map, self.embed_dim = nn.Linear(4, width), width

    def forward_features(self, numbers):
        return self.map(numbers)

def build(size):
    return Line(size["width"])

def fit_positions(state, encoder):
    return state
''',
    "pipeline/methods/mirror.py": '''
"""Mirror: to give the digits back."""
from dataclasses import dataclass
from torch import nn
from pipeline.methods.base import Method, Step

@dataclass(frozen=True, kw_only=True)
class MirrorOptions:
    weight: float

class Mirror(Method):
    Options = MirrorOptions

    def __init__(self, encoder, options, context):
        super().__init__(encoder, options, context)
        self.back = nn.Linear(encoder.embed_dim, 4)

    def inputs(self, batch, draw):
        return {"numbers": batch["numbers"]}

    def forward(self, numbers):
        error = self.back(self.encoder.forward_features(numbers)) - numbers
        return Step(self.options.weight * error.square().mean())

    def pictures(self, step, numbers):
        return {"digits": numbers}
''',
    "config/recipes/mirror.yaml": """
version: 1
title: Mirror
kind: numbers
encoders: [line]
types: {options: {weight: positive}}
demo:
  model: line_micro
  options: {weight: 1.0}
  train: {duration: 5 steps, warmup: 0 steps, batch_size: 4, accumulate: 1, optimizer: adamw, base_lr: 0.1, min_lr: 0.0,
    betas: [0.9, 0.95], weight_decay: 0.0, clip_norm: null, precision: float32, num_workers: 0, checkpoint_every: 5,
    log_every: 1}
""",
    "pipeline/tasks/parity.py": '''
"""Parity: how many numbers are called even or odd rightly by the nearest mean."""
import torch
from pipeline.data.kinds.numbers import Numbers
from pipeline.nn.encoders import load_encoder
from pipeline.tasks.accuracy import accuracy_record

def evaluate(cell):
    numbers = Numbers(cell.data)
    batch = numbers.__getitems__([(0, index) for index in range(len(numbers))])
    with torch.no_grad():
        features = load_encoder(cell.encoder).forward_features(batch["numbers"])
    means = torch.stack([features[numbers.labels == label].mean(dim=0) for label in (0, 1)])
    scores = -torch.cdist(features, means) * cell.settings["sharpness"]
    return {"records": [accuracy_record(scores, numbers.labels)]}
''',
    "config/tasks/parity.yaml": """
version: 1
title: Parity
kind: numbers
needs: features
headline: [top1]
types: {sharpness: positive}
demo: {sharpness: 1.0}
""",
    "config/toy.yaml": """
scale: demo
seeds: [0]
data: {counted: {source: counted, count: 16}}
runs: {mine: {method: mirror}, half: {method: mirror, set: {options.weight: 0.5}}}
tasks: {parity: {seeds: [0]}, blunt: {task: parity, seeds: [0], runs: [mine], set: {sharpness: 0.5}}}
""",
}


def run(root: Path, *command: str) -> str:
    environment = os.environ | {"DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    logs = "".join(path.read_text() for path in sorted(root.glob("logs/**/*.log")))
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}\n{logs[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = copy_tree(tmp_path_factory.mktemp("toys"))
    for name, text in FILES.items():
        assert not (folder / name).exists(), "new files only"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text.lstrip())
    run(folder, "dvc", "init", "-q", "--no-scm", "-f")
    run(folder, "snakemake", "--cores", "2", "--configfile=config/toy.yaml", "all")
    return folder


@pytest.fixture
def root(finished, tmp_path):
    """A copy of the finished study for each test, since tests run in any order and change it."""
    return shutil.copytree(finished, tmp_path / "toys", symlinks=True)


def test_snakemake_runs_a_system_of_a_new_kind_and_dvc_knows_it(root):
    cells = {path.parent.relative_to(root / "results/toy") for path in root.glob("results/toy/*/*/manifest.json")}
    assert {str(cell) for cell in cells} == {
        "pretrain/mine-0", "pretrain/half-0", "parity/mine-0", "parity/half-0", "blunt/mine-0",
    }  # fmt: skip
    manifest = json.loads((root / "results/toy/pretrain/mine-0/manifest.json").read_text())
    assert manifest["cost"]["unit"] == "numbers" and manifest["cost"]["samples"] == 20
    page = (root / "reports/toy/index.html").read_text()
    assert "Parity" in page and "Mirror" in page and "blunt" in page
    assert "Nothing to be done" in run(root, "snakemake", "-n", "--configfile=config/toy.yaml", "all")
    stages = yaml.safe_load((root / "dvc/toy/dvc.lock").read_text())["stages"]
    assert set(stages) == {
        "prepare@counted", "pretrain@mine-0", "pretrain@half-0", "parity@mine-0", "parity@half-0", "blunt@mine-0",
        "report",
    }  # fmt: skip


def test_nothing_is_lost_when_snakemake_removes_a_result(root):
    """Snakemake removes outputs before it runs a job and after one that failed; the result comes back untrained."""
    path = root / "results/toy/pretrain/mine-0/manifest.json"
    data, text = root / "data/counted/files/numbers.json", path.read_bytes()
    command = ("snakemake", "--cores", "1", "--configfile=config/toy.yaml", "--forcerun", "pretrain", "--")
    command += ("results/toy/pretrain/mine-0/manifest.json",)
    whole = data.read_bytes()
    data.write_bytes(whole[:-3] + b"9 ]")
    failed = subprocess.run([sys.executable, "-m", *command], cwd=root, capture_output=True, text=True)
    said = (root / "logs/toy/pretrain/mine-0.log").read_text()
    assert failed.returncode == 1 and "error: data/counted/files/numbers.json has sha256" in said
    assert not path.exists(), "Snakemake no longer does what this is about"
    data.write_bytes(whole)
    run(root, *command)
    said = (root / "logs/toy/pretrain/mine-0.log").read_text()
    assert "finished: results/toy/pretrain/mine-0" in said and "step " not in said
    assert path.read_bytes() == text


def test_dvc_repeats_one_node_of_it_to_the_same_numbers(root):
    place = root / "results/toy/parity/mine-0/manifest.json"
    before = json.loads(place.read_text())
    assert "up to date" in run(root, "dvc", "status", "dvc/toy/dvc.yaml:parity@mine-0")
    run(root, "dvc", "repro", "-q", "-f", "-s", "dvc/toy/dvc.yaml:parity@mine-0")
    after = json.loads(place.read_text())
    assert after["records"] == before["records"] and after["digest"] == before["digest"]
    assert after["provenance"]["started"] > before["provenance"]["started"], "it was run again"


def test_a_cell_run_again_is_equal_until_the_code_is_another(root):
    command = [sys.executable, "-m", "stages.verify", "--study", "config/toy.yaml"]
    said = run(root, "stages.verify", "--study", "config/toy.yaml", "data/counted", "parity/mine-0")
    assert "2 of 2 equal" in said and "prepare/counted: equal" in said and "parity/mine-0: equal" in said
    assert not list((root / "work/verify/toy").iterdir())
    refused = subprocess.run([*command, "parity/none-0"], cwd=root, capture_output=True, text=True)
    assert "'parity/none-0' is no cell of the study that is done; done are 6, such as blunt/mine-0" in refused.stderr
    method = root / "pipeline/methods/mirror.py"
    whole = method.read_text()
    method.write_text(whole.replace("weight * error.square()", "weight * error.abs()"))
    cell = "results/toy/pretrain/mine-0/manifest.json"
    done = subprocess.run([*command, cell], cwd=root, capture_output=True, text=True)
    assert done.returncode == 1 and "0 of 1 equal" in done.stdout
    assert "pretrain/mine-0: DIFFERS: other bytes in files/encoder.safetensors" in done.stdout
    assert (root / "work/verify/toy/pretrain-mine-0" / cell).is_file(), "kept to look at"
    method.write_text(whole)
    assert "1 of 1 equal" in run(root, *command[2:], cell), "what was kept is not taken for a second run"
    method.write_text("raise RuntimeError('no more')\n")
    done = subprocess.run([*command, "pretrain/half-0"], cwd=root, capture_output=True, text=True)
    assert done.returncode == 1 and "pretrain/half-0: failed: " in done.stdout and "no more" in done.stdout
