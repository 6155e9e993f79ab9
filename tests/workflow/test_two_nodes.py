"""Every method over two nodes of a real Slurm cluster: the training of one process, or one that is near it and ends.

pytest -m slow tests/workflow/test_two_nodes.py        ten minutes; needs slurm-wlm and munge
"""

import json

import pytest
import torch
import yaml
from safetensors.torch import load_file

from pipeline.config import available_methods, load_study, recipe_head
from pipeline.graph import Graph
from pipeline.manifest import verify
from tests import real
from tests.workflow.slurm import MARKS, finished

pytestmark = [*MARKS, pytest.mark.slow]
STUDY = "config/tiny.yaml"  # of `real.run`
SMOKE = yaml.safe_load((real.ROOT / "config/smoke.yaml").read_text())
RECIPES = {
    name: yaml.safe_load((real.ROOT / f"config/recipes/{name}.yaml").read_text())["demo"]
    for name in available_methods()
}
TRAINED = {name for name, recipe in RECIPES.items() if "train" in recipe}
SHORT = SMOKE["runs"]["supervised"]["set"]
RUNS = {name: entry for name, entry in SMOKE["runs"].items() if entry["method"] in TRAINED} | {
    "maskdistill": {"method": "maskdistill", "teacher": "mae", "set": SHORT},
    "imae": {"method": "imae", "teacher": "mae", "set": SHORT},
    "clmae": {"method": "clmae", "set": SHORT},
}
# Plain SGD, since Adam blows up what is rounding alone: the gradient of the keys' bias, which softmax ignores. At rates
# that move the weights in three steps.
SGD = {"optimizer": "momentum", "base_lr": 1.0, "lr": 0.1}
EQUAL = 1e-5
# What makes them depend on how a batch is shared out, and how far their losses may be apart.
UNEQUAL = {
    "mixmask": ("BatchNorm's statistics, mask and partners are of one device's images", 0.05),
    "clmae": ("the masks of one device's images are kept apart from each other alone", 0.2),
    "meta-labels": ("dropout is drawn by each device's own generator", 0.2),
    "brep-ssl": ("a loss is the mean over the faces of one device's solids, which have few or many", 0.1),
    "elo-search": ("BatchNorm's statistics, the clips of contrast and those with sound are of one device's", 0.5),
    "elo": ("as elo-search", 0.1),
}


@pytest.fixture(scope="module")
def graph(clone):
    """Each run twice, over two nodes and `alone`; teachers are alone."""
    runs = {}
    for name, entry in RUNS.items():
        own = {**entry, "set": dict(entry["set"])}
        if name not in UNEQUAL:
            known = RECIPES[entry["method"]]["train"]
            own["set"] |= {f"train.{key}": value for key, value in SGD.items() if key in known}
        if "teacher" in own:
            own["teacher"] += "-alone"
        runs |= {
            name: {**own, "cluster": {"pretrain": {"nodes": 2, "gpus": 1}}},
            f"{name}-alone": {**own, "cluster": {}},
        }
    (clone / STUDY).write_text(yaml.safe_dump({**SMOKE, "runs": runs, "tasks": {}, "cluster": {}}))
    return Graph(load_study(clone / STUDY))


def train_alone(clone, graph, run):
    """In one process of this machine, after whom it learns from."""
    if teacher := graph.study.runs[run].teacher:
        train_alone(clone, graph, teacher)
    real.run(clone, "prepare", "--data", graph.study.runs[run].data.name)
    real.run(clone, "pretrain", "--run", run, "--seed", "0")


def published(clone, graph, run, num_devices):
    """Tensors, and columns of the log."""
    cell = clone / graph.node("pretrain", run, 0).folder
    assert verify(cell / "manifest.json")["cost"]["num_devices"] == num_devices
    log = [json.loads(line) for line in (cell / "files/log.jsonl").read_text().splitlines()]
    weights = load_file(cell / "files/method.safetensors")
    return weights, {key: torch.tensor([line[key] for line in log]) for key in ("step", "loss", "lr")}


def difference(expected, found):
    """The largest of any tensor, in parts of its largest number."""
    assert expected.keys() == found.keys()
    return max(
        float((found[key].double() - value.double()).abs().max() / value.double().abs().max().clamp(min=1e-12))
        for key, value in expected.items()
    )


@pytest.mark.parametrize("run", RUNS)
def test_two_nodes_train_as_one_process(clone, cluster, snakemake, graph, run):
    train_alone(clone, graph, f"{run}-alone")
    finished(clone, snakemake(STUDY, str(graph.node("pretrain", run, 0).manifest)))
    (weights, log), (others, told) = published(clone, graph, f"{run}-alone", 1), published(clone, graph, run, 2)
    apart, losses = difference(weights, others), difference(log, told)
    print(f"{run}: weights {apart:.0e}, losses {losses:.0e} apart")
    if run in UNEQUAL:
        assert losses < UNEQUAL[run][1], UNEQUAL[run][0]
    else:
        assert max(apart, losses) < EQUAL


def test_every_method_is_there():
    module = {name: recipe_head(name).method or name for name in TRAINED}
    assert {module[run["method"]] for run in RUNS.values()} == set(module.values())
