"""Weights of others under our names; how whole files are read is the business of tests/engine/test_weights.py."""

import torch

from pipeline.methods.pretrained import Pretrained
from tests.methods.conftest import build


def test_names_are_timms():
    state = {"cls_token": torch.zeros(1), "blocks.0.norm1.weight": torch.ones(1)}
    assert Pretrained.translate(state) == {"encoder.cls_token": state["cls_token"],
                                           "encoder.blocks.0.norm1.weight": state["blocks.0.norm1.weight"]}  # fmt: skip


def test_of_clip_only_the_patch_kernel_changes():
    names = ("norm_pre.weight", "head.weight", "patch_embed.proj.weight")
    state = {name: torch.randn(4, 3, 2, 2) for name in names}
    before = {name: value.clone() for name, value in state.items()}
    translated = Pretrained.translate(state)
    assert set(translated) == {f"encoder.{name}" for name in (*names, "patch_embed.proj.bias")}
    changed = {name for name in names if not torch.equal(translated[f"encoder.{name}"], before[name])}
    assert changed == {"patch_embed.proj.weight"}
    assert all(torch.equal(value, before[name]) for name, value in state.items())  # what was read stays as it was


def test_nothing_is_trained():
    method = build("pretrained")
    assert not method.trains and method.exported() is method.encoder
