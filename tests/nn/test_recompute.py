"""Blocks that are computed again: equal gradients, less memory, and nothing left behind."""

import copy

import pytest
import torch

from pipeline.engine.objective import Objective
from pipeline.nn.encoders import build_encoder
from pipeline.nn.recompute import recomputing
from pipeline.tasks.dense.backbone import MapViT, ViTOptions
from tests.methods.conftest import batch, build  # noqa: F401  (a fixture)

METHODS = ("mae", "dbot", "maskdistill", "imae", "clmae", "supervised")


def gradients(model, run):
    model.zero_grad()
    torch.manual_seed(3)
    run().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def kept(run):
    """Numbers that autograd keeps for the backward pass, each storage counted once."""
    storages = {}

    def pack(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes() // 4
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = run()
    return sum(storages.values()), loss


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_gradients_are_the_same_bits(name, share, batch):  # noqa: F811
    objective = Objective(build(name), seed=0).train()
    run = lambda: objective(**batch, mode="loss")["loss"]  # noqa: E731
    expected = gradients(objective, run)
    required = [p.requires_grad for p in objective.parameters()]
    with recomputing(objective, share) as count:
        assert count > 0
        got = gradients(objective, run)
    assert expected.keys() == got.keys()
    assert all(torch.equal(value, got[name]) for name, value in expected.items())
    assert required == [p.requires_grad for p in objective.parameters()]
    assert all("forward" not in vars(part) for part in objective.modules()), "left behind"


def test_random_states_are_kept(batch):  # noqa: F811
    """Dropout draws again what it drew, and what comes after the backward pass draws what it would have."""
    encoder = build_encoder("vit_micro", 16, drop_path=0.5).train()
    run = lambda: encoder.forward_features(batch["images"]).square().mean()  # noqa: E731
    expected, after = gradients(encoder, run), torch.rand(3)
    with recomputing(encoder, 1.0):
        got, again = gradients(encoder, run), torch.rand(3)
    assert all(torch.equal(value, got[name]) for name, value in expected.items()) and torch.equal(after, again)


def test_the_more_blocks_the_less_is_kept(batch):  # noqa: F811
    encoder = build_encoder("vit_micro", 16)
    run = lambda: encoder.forward_features(batch["images"]).square().mean()  # noqa: E731
    sizes = []
    for share in (0.0, 0.25, 0.5, 1.0):
        with recomputing(encoder, share) as count:
            assert count == round(4 * share)
            sizes.append(kept(run)[0])
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] < sizes[0] / 3


def test_frozen_blocks_and_evaluation_are_left_alone(batch):  # noqa: F811
    encoder = build_encoder("vit_micro", 16)
    frozen = copy.deepcopy(encoder).requires_grad_(False)
    with recomputing(torch.nn.ModuleList([encoder, frozen]), 1.0) as count:
        assert count == 4 and all("forward" not in vars(block) for block in frozen.blocks)
        with torch.no_grad():
            encoder.eval().forward_features(batch["images"])


def test_maps_have_the_same_gradients(batch):  # noqa: F811
    options = ViTOptions(patch_size=None, window_size=2, global_blocks=[3], relative="decomposed", class_token=False,
                         layer_scale=None)  # fmt: skip
    vit = MapViT(build_encoder("vit_micro", 16, drop_path=0.5), options, taps=[1, 3], image_size=16).train()
    run = lambda: sum(x.square().mean() for x in vit(batch["images"]))  # noqa: E731
    expected = gradients(vit, run)
    with recomputing(vit, 1.0) as count:
        assert count == 4
        got = gradients(vit, run)
    assert all(torch.equal(value, got[name]) for name, value in expected.items())
    assert gradients(vit, run).keys() == expected.keys(), "the blocks run on maps as before"
