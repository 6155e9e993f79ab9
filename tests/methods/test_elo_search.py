"""ELo's search: repeated to the same bits, led by what it was told, and its bad ends."""

import pytest
import torch

from pipeline.config import ConfigError
from pipeline.data.kinds import load_kind
from pipeline.engine.phases import run_phases
from pipeline.methods.elo import TASKS, TERMS
from tests.methods import recipe
from tests.methods.conftest import build

FEW = {"tasks_first": False, "num_rounds": 2, "population": 3, "num_samples": 32, "num_clusters": 4}


class Examples:
    """Thirty-two clips of noise."""

    batch = load_kind("audiovisual").example(recipe("elo_search"), 32)

    def __len__(self):
        return 32

    def __getitems__(self, pairs):
        return {name: value[[index for _, index in pairs]] for name, value in self.batch.items()}


def search(folder, method, dies_at=None):
    seen = []

    def train(phase, *, work, seed, steps_before):
        """One step of gradient descent, whose draws are the phase's seed's."""
        seen.append(phase.name)
        if phase.name == dies_at:
            raise KeyboardInterrupt
        draws = torch.rand(32, 7, generator=torch.Generator().manual_seed(seed))
        batch = Examples.batch
        method.train()
        method.zero_grad()
        method(**{name: batch[name] for name in ("video", "flow", "sound", "heard")}, draws=draws).loss.backward()
        with torch.no_grad():
            for parameter in method.parameters():
                if parameter.grad is not None:
                    parameter -= 1e-3 * parameter.grad
        return {"seconds": 0.0, "steps": 1}

    done, _ = run_phases(method, method.phases(recipe("elo_search"), lambda _: Examples()), train, work=folder, seed=0)
    return done, seen


def test_an_interrupted_search_ends_with_the_same_bits(tmp_path):
    whole = build("elo_search", **FEW)
    expected, names = search(tmp_path / "whole", whole)
    assert names == [*(f"round-{number}-{place}" for number in range(2) for place in range(3)), "best"]
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "cut", build("elo_search", **FEW), dies_at="round-1-1")
    again = build("elo_search", **FEW)
    got, seen = search(tmp_path / "cut", again)
    assert seen == ["round-1-1", "round-1-2", "best"], "one candidate is repeated, none that was over"
    assert [phase["result"] for phase in got] == [phase["result"] for phase in expected]
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in whole.state_dict().items())
    found = [phase["result"] for phase in expected]
    best = min(found[:-1], key=lambda result: result["fitness"])
    assert found[-1]["weights"] == best["weights"] == {
        term.name: round(weight, 6) for term, weight in zip(TERMS, whole.weights.tolist(), strict=True)
    }  # fmt: skip
    assert sum(best["shares"]) == pytest.approx(1, abs=1e-4) and 0 <= best["labelled"] <= 1


@pytest.mark.parametrize("kind", ["cmaes", "tournament"])
def test_the_first_round_begins_with_one_task_each(tmp_path, kind):
    more = {"num_rounds": 2, "population": 9, "search": kind}
    done, _ = search(tmp_path, build("elo_search", **FEW | more | {"tasks_first": True}))
    found = [{name for name, weight in phase["result"]["weights"].items() if weight} for phase in done]
    for task, names in zip(TASKS, found, strict=False):
        assert names == {term.name for term in TERMS if term.task == task}
    assert all(len(names) > 8 for names in found[len(TASKS) : 9]), "all others are drawn"
    weights = [tuple(phase["result"]["weights"].values()) for phase in done]
    assert len(set(weights[9:18]) & set(weights[:9])) == 0, "the second round is asked for"


def test_a_round_without_a_finite_fitness_ends_the_search(tmp_path):
    method = build("elo_search", **FEW)
    method._embedded = lambda samples: (torch.full((32, 4), torch.nan).numpy(), Examples.batch["labels"].numpy())
    with pytest.raises(
        ConfigError, match=r"no candidate of round 1 has a finite fitness.*: \[.*; \[.*Lower train.base_lr"
    ):
        search(tmp_path, method)


def test_what_cannot_be_searched(tmp_path):
    with pytest.raises(ConfigError, match="population is 1; expected two"):
        build("elo_search", population=1)
    with pytest.raises(ConfigError, match="num_clusters is 40, and there are 32 samples"):
        search(tmp_path, build("elo_search", **{**FEW, "num_clusters": 40}))
