import pytest
import torch

from pipeline.engine.optim import LARS, build_optimizer
from pipeline.engine.schedules import build_schedule
from pipeline.nn.encoders import build_encoder
from pipeline.tasks.linear_probe import LinearProbe, hold_out


@pytest.fixture
def probe():
    torch.manual_seed(0)
    return LinearProbe(build_encoder("vit_micro", 16), "class_token", num_classes=10, num_heads=3)


IMAGES, LABELS = torch.randn(8, 3, 16, 16), torch.arange(8)


def test_only_heads_learn(probe):
    probe.train()
    probe(IMAGES, LABELS, mode="loss")["loss"].backward()
    assert all(parameter.grad is None for parameter in probe.encoder.parameters())
    assert all(parameter.grad is not None for parameter in probe.heads.parameters())
    assert not probe.encoder.training and probe.norm.training


def test_heads_share_nothing(probe):
    probe.train()
    alone = torch.nn.functional.cross_entropy(probe(IMAGES)[:, 1], LABELS)
    gradient = torch.autograd.grad(alone, probe.heads[1].weight)[0]
    probe(IMAGES, LABELS, mode="loss")["loss"].backward()
    assert torch.allclose(probe.heads[1].weight.grad, gradient, atol=1e-6)


def test_features_are_normalised_without_affine_parameters(probe):
    assert not list(probe.norm.parameters()) and probe.norm.eps == 1e-6
    probe.train()
    logits = probe(IMAGES)
    assert logits.shape == (8, 3, 10)
    features = probe.encoder.forward_features(IMAGES)[:, 0]
    normalised = (features - features.mean(0)) / (features.var(0, unbiased=False) + 1e-6).sqrt()
    assert torch.allclose(logits[:, 0], probe.heads[0](normalised), atol=1e-4)


def test_held_out_images_train_no_head():
    kept, held_out = hold_out(100, 0.1, seed=0)
    assert len(held_out) == 10 and sorted([*kept.tolist(), *held_out.tolist()]) == list(range(100))
    assert not torch.equal(held_out, hold_out(100, 0.1, seed=1)[1])


def test_a_probe_of_sgd_has_a_rate_for_each_head_and_falls_at_milestones(probe):
    """MoCo's: one settings section says optimiser, rates and schedule."""
    rates = [30.0, 3.0, 0.3]
    settings = {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.0, "layer_decay": None}
    for name, kind in (("sgd", torch.optim.SGD), ("lars", LARS)):
        section = settings | {"optimizer": name, "trust_coefficient": 0.001}
        optimizer = build_optimizer(probe, rates, section, parts=list(probe.heads))
        assert type(optimizer) is kind and {group["lr"] for group in optimizer.param_groups} == set(rates)
        listed = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
        assert sorted(listed) == sorted(map(id, probe.heads.parameters()))
    falls = build_schedule({"schedule": "multistep", "milestones": [0.6, 0.8], "gamma": 0.1}, 100, 0, 30.0)
    assert [falls(step) for step in (0, 59, 60, 79, 80, 99)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_features_may_be_left_as_they_are():
    encoder = build_encoder("vit_micro", 16)
    probe = LinearProbe(encoder, "class_token", num_classes=10, num_heads=1, normalise=False).train()
    expected = probe.heads[0](encoder.eval().forward_features(IMAGES)[:, 0])
    assert torch.allclose(probe(IMAGES)[:, 0], expected, atol=1e-6)
