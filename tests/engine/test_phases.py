"""Methods of several loops: killed anywhere they end with the same bits, and what is over is not repeated."""

import json
import subprocess

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from pipeline import manifest
from pipeline.config import ConfigError
from pipeline.engine.checkpoint import stored
from pipeline.engine.phases import PhaseError, run_phases, total_cost
from pipeline.methods.base import Method, Phase
from tests.real import ROOT, command, environment
from tests.workflow.graphs import copy_tree

STAIRS = '''
"""Stairs: first the pixels of an image are learned, then those of its partner, by a new head on frozen patches."""
import os
import signal
import threading
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from pipeline.data.transforms import normalised
from pipeline.methods.base import Method, Phase, Step


@dataclass(frozen=True, kw_only=True)
class StairsOptions:
    num_pixels: int


class Stairs(Method):
    Options = StairsOptions
    num_snapshots = 1

    def __init__(self, encoder, options, context):
        super().__init__(encoder, options, context)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(encoder.embed_dim, options.num_pixels) for name in ("first", "second")}
        )
        self.register_buffer("taken", torch.tensor(0))

    def phases(self, settings, open_samples):
        def begin_first():
            self.begin("first", "images", 1.0)

        def end_first():
            self.happens("end first")
            samples = open_samples(settings | {"same_class_share": 1.0})
            partners = normalised(samples.__getitems__([(0, index) for index in range(8)])["partner"])
            return {"scale": float(partners.std()), "weight": float(self.heads["first"].weight.norm())}

        result = yield Phase(name="first", settings=settings, begin=begin_first, end=end_first)

        def begin_second():
            self.happens("begin second")
            self.begin("second", "partner", result["scale"])
            self.encoder.patch_embed.requires_grad_(False)

        changes = {"train": settings["train"] | settings["second"], "same_class_share": 1.0}
        yield Phase(name="second", settings=settings | changes, begin=begin_second)

    def begin(self, name, key, scale):
        self.name, self.key, self.scale = name, key, scale
        self.taken.zero_()
        self.heads[name].reset_parameters()
        for other, head in self.heads.items():
            head.requires_grad_(other == name)

    def inputs(self, batch, draw):
        return {"images": batch["images"], "target": batch.get(self.key, batch["images"]), "noise": draw(1)}

    def forward(self, images, target, noise):
        tokens = self.encoder.forward_features(images)
        error = self.heads[self.name](tokens.mean(dim=1)) - target.flatten(1)[:, : self.options.num_pixels]
        return Step(self.scale * (error + noise).square().mean())

    def after_step(self):
        self.taken += 1
        self.happens(f"{self.name} {int(self.taken)}")

    def happens(self, what):
        """Die, or fail, where the file `fate` says so."""
        fate = Path("fate")
        if fate.exists() and fate.read_text() == f"die: {what}":
            for thread in threading.enumerate():
                if thread.name.startswith("checkpoint-"):
                    thread.join()  # what the test counts on is there, however slow the disk
            os.kill(os.getpid(), signal.SIGKILL)
        if fate.exists() and fate.read_text() == f"raise: {what}":
            raise KeyError(what)

    def exported(self):
        self.happens("publish")
        return self.encoder

    def pictures(self, step, images):
        return {"input": images}
'''
RECIPE = {
    "version": 1,
    "title": "Stairs",
    "kind": "images",
    "types": {"options": {"num_pixels": "count"}, "second": {"base_lr": "positive", "duration": "duration"}},
    "demo": {
        "model": "vit_micro",
        "options": {"num_pixels": 8},
        "augment": {"kind": "crop", "image_size": 16, "scale": [0.6, 1.0], "ratio": [0.75, 1.33], "flip": False},
        "train": {
            "duration": "8 steps",
            "warmup": "0 steps",
            "batch_size": 16,
            "accumulate": 1,
            "optimizer": "sgd",
            "momentum": 0.9,
            "base_lr": 0.5,
            "min_lr": 0.0,
            "weight_decay": 0.0,
            "clip_norm": None,
            "precision": "float32",
            "num_workers": 0,
            "checkpoint_every": 3,
            "log_every": 1,
        },
        "second": {"duration": "6 steps", "base_lr": 0.25},
    },
}
STUDY = {"runs": {"stairs": {"method": "stairs"}}, "tasks": {"knn": {"seeds": [0], "set": {"num_neighbours": 5}}}}
CELL = ("pretrain", "--run", "stairs", "--seed", "0")
OUT = "results/tiny/pretrain/stairs-0"


def stage(folder, *arguments, **more):
    return subprocess.run(
        command(*arguments), cwd=folder, env=environment(**more), capture_output=True, text=True, check=False
    )


def project(folder):
    """A copy of the tree that has the method as well."""
    copy_tree(folder)
    (folder / "pipeline/methods/stairs.py").write_text(STAIRS.lstrip())
    (folder / "config/recipes/stairs.yaml").write_text(yaml.safe_dump(RECIPE))
    smoke = yaml.safe_load((ROOT / "config/smoke.yaml").read_text())
    (folder / "config/tiny.yaml").write_text(yaml.safe_dump(smoke | STUDY, sort_keys=False))
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A project in which the method was trained without interruption."""
    folder = project(tmp_path_factory.mktemp("whole"))
    for arguments in (("prepare", "--data", "smoke-digits"), CELL):
        done = stage(folder, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def other(whole, tmp_path):
    """The same project with its data, and nothing trained."""
    folder = project(tmp_path)
    (folder / "data").symlink_to(whole / "data")
    return folder


def lines(folder):
    return [json.loads(line) for line in (folder / OUT / "files/log.jsonl").read_text().splitlines()]


def test_one_log_one_cost_and_all_results_are_published(whole):
    found = manifest.verify(whole / OUT / "manifest.json")
    assert [line["step"] for line in lines(whole)] == list(range(1, 15))
    assert [line["phase"] for line in lines(whole)] == 8 * ["first"] + 6 * ["second"]
    assert [lines(whole)[step]["lr"] for step in (0, 8)] == [0.5 * 16 / 256, 0.25 * 16 / 256]
    assert found["cost"]["steps"] == 14 and found["cost"]["samples"] == 14 * 16
    told = json.loads((whole / OUT / "files/phases.json").read_text())
    assert [(phase["name"], phase["steps"]) for phase in told] == [("first", 8), ("second", 6)]
    assert told[0]["result"].keys() == {"scale", "weight"} and told[1]["result"] is None
    assert {"snapshot-000000.png", "snapshot-000008.png"} <= {path.name for path in (whole / OUT / "files").iterdir()}
    state = load_file(whole / OUT / "files/method.safetensors")
    assert state["taken"] == 6
    # The first head is as its phase left it: the second neither trained it nor initialised it again.
    assert state["heads.first.weight"].norm().item() == pytest.approx(told[0]["result"]["weight"], rel=1e-6)


def test_a_task_measures_the_encoder(whole):
    done = stage(whole, "evaluate", "--task", "knn", "--run", "stairs", "--seed", "0")
    assert done.returncode == 0, done.stdout + done.stderr


def test_killed_again_and_again_it_ends_with_the_same_bits(whole, other):
    """In the first phase, at its end, between the two, where a hook fails, in the second, and when all is over."""
    begun = []
    fates = ("die: first 5", "die: end first", "raise: begin second", "die: begin second", "die: second 4")
    for fate in (*fates, "die: publish", ""):
        (other / "fate").write_text(fate)
        done = stage(other, *CELL)
        assert done.returncode == {"d": -9, "r": 1, "": 0}[fate[:1]], done.stderr
        begun.append([line.split("  ")[0] for line in done.stdout.splitlines() if line.startswith("step ")][:1])
        if fate.startswith("raise"):
            assert "error: phase 'second' could not begin: KeyError: 'begin second'. The phases before" in done.stderr
            assert "in begin_second" in done.stderr, "the line that failed"
    first, second = "of phase 'first'", "of phase 'second'"
    assert begun == [
        [f"step 1/8 {first}"],
        [f"step 4/8 {first}"],
        [],  # only the end was left
        [],
        [f"step 1/6 {second}"],
        [f"step 4/6 {second}"],
        [],
    ]
    expected, got = (manifest.verify(folder / OUT / "manifest.json") for folder in (whole, other))
    assert got["artefacts"] == expected["artefacts"], "weights, log, results and pictures"
    for key in ("steps", "samples", "flops_per_sample"):
        assert got["cost"][key] == expected["cost"][key]


def test_two_processes_equal_one_and_resume(whole, other):
    (other / "fate").write_text("die: second 2")
    assert stage(other, *CELL, UNMASK_NUM_PROCESSES="2").returncode != 0
    (other / "fate").unlink()
    done = stage(other, *CELL, UNMASK_NUM_PROCESSES="2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "of phase 'first'" not in done.stdout
    expected, got = (load_file(folder / OUT / "files/method.safetensors") for folder in (whole, other))
    for name, tensor in expected.items():
        assert torch.allclose(tensor.float(), got[name].float(), rtol=0, atol=1e-5 * float(tensor.abs().max())), name
    for line, again in zip(lines(whole), lines(other), strict=True):
        assert again.pop("phase") == line.pop("phase")
        assert again == pytest.approx(line, rel=1e-5, abs=1e-7)


class Search(Method):
    """Rounds of three candidates each; the best of a round moves where the next one searches."""

    def __init__(self, num_rounds=3, fails=None):
        nn.Module.__init__(self)
        self.weight, self.head = nn.Parameter(torch.zeros(2)), nn.Linear(1, 1)
        self.num_rounds, self.fails, self.begun, self.asked = num_rounds, fails, [], []

    def phases(self, settings, open_samples):
        centre = 0.5
        for number in range(self.num_rounds):
            fitness = {}
            for shift in (-0.1, 0.0, 0.1):
                point = centre + shift
                self.asked.append(point)
                fitness[point] = yield Phase(
                    name=f"round-{number}",
                    settings={"point": point},
                    begin=lambda: self.begin(),
                    end=lambda point=point: self.end(point),
                )
            centre = min(fitness, key=fitness.get)
            with torch.no_grad():
                self.head.bias += 1  # between two yields, and after a phase's state was read

    def begin(self):
        assert all(parameter.requires_grad for parameter in self.parameters()), "as the constructor left it"
        self.head.requires_grad_(False)
        self.begun.append(len(self.asked) - 1)
        with torch.no_grad():
            self.weight.normal_()

    def end(self, point):
        if len(self.asked) - 1 == self.fails:
            raise ValueError("too few clusters")
        return abs(point - 0.75) + 1e-3 * float(torch.rand(()))


def fake_train(model):
    """Adds what its seed says; costs what is easily added up."""

    def train(phase, *, work, seed, steps_before):
        assert work.is_dir()
        with torch.no_grad():
            model.weight += torch.rand(2, generator=torch.Generator().manual_seed(seed)) * phase.settings["point"]
        return {"seconds": 1.0, "steps": 4, "samples": 8, "flops_per_sample": float(steps_before), "resumed_at": 0}

    return train


def searched(folder, model):
    done, _ = run_phases(model, model.phases({}, None), fake_train(model), work=folder, seed=0)
    return [phase["result"] for phase in done], model.state_dict()


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_an_interrupted_search_repeats_one_candidate(tmp_path):
    expected, state = searched(tmp_path / "whole", Search())
    assert len(expected) == len(set(expected)) == 9
    with pytest.raises(PhaseError, match=r"phase 'round-1' could not end: ValueError: too few clusters\. The phases b"):
        torch.manual_seed(0)
        searched(tmp_path / "cut", Search(fails=4))
    again = Search()
    got, resumed = searched(tmp_path / "cut", again)
    assert got == expected and again.begun == [3, 4, 5, 6, 7, 8], "the newest that is over begins too"
    assert torch.equal(resumed["weight"], state["weight"])


def test_the_state_between_phases_is_the_state_that_was_read(tmp_path):
    torch.manual_seed(1)
    first = Search()
    bias = first.head.bias.item()
    _, state = searched(tmp_path / "whole", first)
    assert float(state["head.bias"]) == pytest.approx(bias + 3)
    torch.manual_seed(1)
    with pytest.raises(PhaseError):
        searched(tmp_path / "cut", Search(fails=7))
    _, resumed = searched(tmp_path / "cut", Search())  # with another initialisation, which must not matter
    assert same(state, resumed)


def test_a_damaged_result_gives_way_to_the_one_before(tmp_path, capsys):
    expected, _ = searched(tmp_path / "whole", Search())
    with pytest.raises(PhaseError):
        searched(tmp_path / "cut", Search(fails=5))
    newest = stored(tmp_path / "cut/phases")[-1]
    newest.write_bytes(newest.read_bytes()[:-10])
    again = Search()
    got, _ = searched(tmp_path / "cut", again)
    assert "it was cut short" in capsys.readouterr().out
    assert got == expected and again.begun[:2] == [3, 4]


def test_only_the_newest_results_stay_on_disk(tmp_path):
    searched(tmp_path, Search())
    assert sorted(path.name for path in (tmp_path / "phases").iterdir()) == [
        f"step-0000000{number}.{end}" for number in (8, 9) for end in ("json", "pt")
    ]


def test_work_of_other_code_is_not_gone_on_with(tmp_path):
    class Renamed(Search):
        def phases(self, settings, open_samples):
            for phase in super().phases(settings, open_samples):
                yield Phase(name=f"{phase.name}-b", settings=phase.settings)

    with pytest.raises(PhaseError):
        searched(tmp_path, Search(fails=2))
    with pytest.raises(PhaseError, match=r"phase 1 is 'round-0-b', and 'round-0' was trained in its place"):
        searched(tmp_path, Renamed())


@pytest.mark.parametrize(
    ("result", "error", "words"),
    [
        (torch.ones(2), PhaseError, "could not end: TypeError: Object of type Tensor is not JSON serializable"),
        (ConfigError("num_clusters is 0"), ConfigError, "^num_clusters is 0$"),
    ],
)
def test_a_result_is_words_and_numbers(tmp_path, result, error, words):
    class Odd(Search):
        def end(self, point):
            if isinstance(result, Exception):
                raise result
            return result

    with pytest.raises(error, match=words):
        searched(tmp_path, Odd())
    assert not stored(tmp_path / "phases")


def test_costs_add_up():
    one = {"seconds": 2.0, "steps": 4, "samples": 10, "flops_per_sample": 6.0, "device": "cpu", "resumed_at": 3}
    two = one | {"seconds": 3.0, "steps": 1, "samples": 30, "flops_per_sample": 2.0, "resumed_at": 0}
    assert total_cost([one]) == one
    assert total_cost([one, two]) == {
        "seconds": 5.0, "steps": 5, "samples": 40, "samples_per_second": 8.0, "flops_per_sample": 3.0, "device": "cpu",
    }  # fmt: skip
