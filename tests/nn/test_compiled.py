"""Compiled blocks: the gradients of those that are not, but for the last bits, and nothing left behind."""

import shutil

import pytest
import torch

from pipeline.engine.objective import Objective
from pipeline.nn.compiled import compiling
from pipeline.nn.encoders import build_encoder
from pipeline.nn.recompute import recomputing
from tests.methods.conftest import batch, build  # noqa: F401  (a fixture)
from tests.nn.test_recompute import METHODS, gradients

pytestmark = [
    pytest.mark.skipif(not shutil.which("c++"), reason="kernels of a CPU are compiled by a C++ compiler"),
    pytest.mark.timeout(600),
]


def same(got, expected):
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert (got[name] - value).abs().max() <= 1e-4 * value.abs().max() + 1e-7, name


@pytest.mark.parametrize("name", [name if name == "mae" else pytest.param(name, marks=pytest.mark.slow)
                                  for name in METHODS])  # fmt: skip
def test_gradients_are_the_same(name, batch):  # noqa: F811
    objective = Objective(build(name), seed=0).train()
    run = lambda: objective(**batch, mode="loss")["loss"]  # noqa: E731
    expected = gradients(objective, run)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()  # of other tests of this process
    with compiling(objective) as count, recomputing(objective, 0.5) as again:
        assert count > again > 0
        same(gradients(objective, run), expected)
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0, "nothing was compiled"
    assert all("forward" not in vars(part) for part in objective.modules()), "left behind"


def test_random_numbers_are_the_same(batch):  # noqa: F811
    """With `drop_path`, whose blocks each have a kernel of their own."""
    encoder = build_encoder("vit_micro", 16, drop_path=0.5).train()
    run = lambda: encoder.forward_features(batch["images"]).square().mean()  # noqa: E731
    expected, after = gradients(encoder, run), torch.rand(3)
    with compiling(encoder) as count:
        assert count == 4
        got, again = gradients(encoder, run), torch.rand(3)
    same(got, expected)
    assert torch.equal(after, again)
