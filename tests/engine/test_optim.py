import pytest
import timm.optim
import torch
from torch import nn

from pipeline.config import ConfigError
from pipeline.engine.optim import LARS, TOKENS, build_optimizer, inherit_state, layers_of, param_groups, vit_layer
from pipeline.nn.encoders import build_encoder
from tests.methods.conftest import build


def flat(groups):
    return {id(parameter): group for group in groups for parameter in group["params"]}


def test_each_trainable_parameter_stands_in_one_group():
    method = build("mae")
    groups = param_groups(method, 1e-3, 0.05)
    listed = [id(parameter) for group in groups for parameter in group["params"]]
    trainable = {id(parameter) for parameter in method.parameters() if parameter.requires_grad}
    assert len(listed) == len(set(listed)) and set(listed) == trainable


def test_tokens_decay_in_pretraining_and_vectors_do_not():
    method = build("mae")
    group = flat(param_groups(method, 1e-3, 0.05))
    assert group[id(method.encoder.cls_token)]["weight_decay"] == 0.05
    assert group[id(method.decoder.mask_token)]["weight_decay"] == 0.05
    assert group[id(method.encoder.norm.weight)]["weight_decay"] == 0
    assert group[id(method.encoder.blocks[0].attn.qkv.bias)]["weight_decay"] == 0
    assert group[id(method.encoder.blocks[0].attn.qkv.weight)]["weight_decay"] == 0.05


def test_layer_decay_counts_from_the_last_layer():
    encoder = build_encoder("vit_micro", 16).requires_grad_(True)
    model = nn.ModuleDict({"encoder": encoder, "head": nn.Linear(96, 10)})
    group = flat(param_groups(model, 1.0, 0.05, layer_decay=0.5, no_decay=TOKENS, num_layers=4))
    assert group[id(model["head"].weight)]["lr"] == 1.0
    assert group[id(encoder.norm.weight)]["lr"] == 1.0
    assert group[id(encoder.blocks[3].norm1.weight)]["lr"] == 0.5
    assert group[id(encoder.blocks[0].norm1.weight)]["lr"] == 0.5**4
    assert group[id(encoder.patch_embed.proj.weight)]["lr"] == 0.5**5
    assert group[id(encoder.pos_embed)] == group[id(encoder.cls_token)] | {
        "params": group[id(encoder.pos_embed)]["params"]
    }
    assert group[id(encoder.pos_embed)]["weight_decay"] == 0


def test_layers_are_found_by_name():
    assert vit_layer("backbone.encoder.blocks.11.mlp.fc1.weight", 12) == 12
    assert vit_layer("cls_token", 12) == 0
    assert vit_layer("decode_head.conv.weight", 12) == 13


def test_lars_equals_its_equations():
    torch.manual_seed(0)
    weight, bias = nn.Parameter(torch.randn(3, 4)), nn.Parameter(torch.randn(3))
    optimizer = LARS([weight, bias], lr=0.5, momentum=0.9, weight_decay=0.01, trust_coefficient=0.001)
    expected = {"w": weight.detach().clone(), "b": bias.detach().clone()}
    buffers = {"w": torch.zeros(3, 4), "b": torch.zeros(3)}
    for _ in range(3):
        weight.grad, bias.grad = torch.randn(3, 4), torch.randn(3)
        update = weight.grad + 0.01 * expected["w"]
        update = update * 0.001 * expected["w"].norm() / update.norm()
        buffers["w"] = 0.9 * buffers["w"] + update
        buffers["b"] = 0.9 * buffers["b"] + bias.grad
        expected["w"] = expected["w"] - 0.5 * buffers["w"]
        expected["b"] = expected["b"] - 0.5 * buffers["b"]
        optimizer.step()
    assert torch.allclose(weight, expected["w"], atol=1e-6)
    assert torch.allclose(bias, expected["b"], atol=1e-6)


def test_lars_moves_a_weight_of_zeros():
    weight = nn.Parameter(torch.zeros(2, 2))
    weight.grad = torch.ones(2, 2)
    LARS([weight], lr=0.1).step()
    assert torch.allclose(weight, torch.full((2, 2), -0.1))


def test_lars_resumes_from_its_state():
    weight = nn.Parameter(torch.ones(2, 2))
    first = LARS([weight], lr=0.1)
    weight.grad = torch.ones(2, 2)
    first.step()
    other = LARS([nn.Parameter(torch.ones(2, 2))], lr=0.1)
    other.load_state_dict(first.state_dict())
    buffer = next(iter(other.state.values()))["momentum_buffer"]
    assert torch.equal(buffer, next(iter(first.state.values()))["momentum_buffer"])


@pytest.mark.parametrize("decay", [0.0, 0.05])
def test_frozen_parameters_stand_in_no_group(decay):
    encoder = build_encoder("vit_micro", 16)
    assert id(encoder.pos_embed) not in flat(param_groups(encoder, 1.0, decay))


def trained(optimizer, model, steps=3):
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.ones(2, 4)).square().sum().backward()
        optimizer.step()
    return optimizer


def test_recipes_name_their_optimiser():
    model = torch.nn.Linear(4, 3)
    adamw = build_optimizer(model, 0.1, {"optimizer": "adamw", "betas": [0.8, 0.9], "weight_decay": 0.5})
    assert isinstance(adamw, torch.optim.AdamW) and adamw.defaults["betas"] == (0.8, 0.9)
    assert sorted(group["weight_decay"] for group in adamw.param_groups) == [0.0, 0.5]  # vectors are spared
    sgd = build_optimizer(model, 0.1, {"optimizer": "sgd", "momentum": 0.7, "weight_decay": 0.5})
    assert isinstance(sgd, torch.optim.SGD) and sgd.defaults["momentum"] == 0.7
    assert [group["weight_decay"] for group in sgd.param_groups] == [0.5]
    lion = build_optimizer(model, 0.1, {"optimizer": "lion", "betas": [0.8, 0.9], "weight_decay": 0.5})
    assert isinstance(lion, timm.optim.Lion) and lion.defaults["betas"] == (0.8, 0.9)
    with pytest.raises(ConfigError, match=r"train.optimizer is 'adamm'; available: \['adamw', 'lars', 'sgd'\] and"):
        build_optimizer(model, 0.1, {"optimizer": "adamm"})


def test_parts_learn_at_rates_of_their_own():
    heads = [torch.nn.Linear(4, 3) for _ in range(2)]
    model = torch.nn.ModuleList([*heads, torch.nn.Linear(4, 3)])
    train = {"optimizer": "lars", "momentum": 0.7, "trust_coefficient": 0.01, "weight_decay": 0.5}
    lars = build_optimizer(model, [0.1, 0.2], train, parts=heads)
    assert isinstance(lars, LARS)
    for group, rate in zip(lars.param_groups, (0.1, 0.2), strict=True):
        assert group.items() >= {"lr": rate, "momentum": 0.7, "weight_decay": 0.5, "trust_coefficient": 0.01}.items()
    assert [len(group["params"]) for group in lars.param_groups] == [2, 2]  # and the third layer's stand in none
    with pytest.raises(ConfigError, match=r"train has 1 rates, \[0.1\], for 2 parts of the model"):
        build_optimizer(model, 0.1, train, parts=heads)


def test_recipes_may_name_the_smallest_divisor_and_what_is_spared():
    method = build("dbot", model="beit_micro", symmetric=True)
    train = {"optimizer": "adamw", "betas": [0.9, 0.98], "weight_decay": 0.05, "eps": 1e-6, "no_decay": ["cls_token"]}
    adamw = build_optimizer(method, 0.1, train)
    assert all(group["eps"] == 1e-6 for group in adamw.param_groups)
    group = flat(adamw.param_groups)
    assert group[id(method.encoder.cls_token)]["weight_decay"] == 0
    assert group[id(method.mask_token)]["weight_decay"] == 0.05
    plain = build_optimizer(method, 0.1, {**train, "eps": 1e-8, "no_decay": []})
    assert flat(plain.param_groups)[id(method.encoder.cls_token)]["weight_decay"] == 0.05


class Halves(nn.Module):
    """Two parts that no loss shares."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.rest, self.module = nn.Linear(4, 3), nn.Linear(4, 3)


def test_the_idle_half_decays_and_moves_as_where_gradients_are_zeroed():
    """Against two steps with an optimiser whose gradients are zeroed between them and never dropped."""
    train = {"optimizer": "adamw", "betas": [0.9, 0.95], "weight_decay": 0.5}
    ours, theirs = Halves(), Halves()
    alternating = build_optimizer(ours, 0.1, {**train, "alternate": "module"})
    shared = build_optimizer(theirs, 0.1, {**train, "alternate": None})
    for step in range(4):
        inputs = torch.full((2, 4), 1.0 + step)
        losses = [part(inputs).square().sum() for part in (ours.rest, ours.module)]
        alternating.zero_grad()
        sum(losses).backward()
        alternating.step()
        assert all(parameter.grad.abs().sum() > 0 for parameter in ours.parameters())  # left as they were
        parts = (theirs.rest, theirs.module)
        both = [torch.autograd.grad(part(inputs).square().sum(), list(part.parameters())) for part in parts]
        for part, gradients in zip(parts, both, strict=True):  # of the weights before either step, as ours
            for parameter, gradient in zip(part.parameters(), gradients, strict=True):
                parameter.grad = gradient
            shared.step()
            shared.zero_grad(set_to_none=False)
    for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(own, other, atol=1e-6)
    assert {int(state["step"]) for state in alternating.state.values()} == {7, 8}  # once less before its first gradient
    plain = Halves()
    optimizer = build_optimizer(plain, 0.1, {**train, "alternate": None})
    for step in range(4):
        optimizer.zero_grad()
        sum(part(torch.full((2, 4), 1.0 + step)).square().sum() for part in (plain.rest, plain.module)).backward()
        optimizer.step()
    assert not torch.allclose(plain.rest.weight, ours.rest.weight, atol=1e-3)
    with pytest.raises(ConfigError, match=r"train.alternate names 'masker'; parts of Halves: \['module', 'rest'\]"):
        build_optimizer(Halves(), 0.1, {**train, "alternate": "masker"})


def test_rates_that_are_not_scheduled_stand_in_a_group_of_their_own():
    train = {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 1e-4, "unscheduled": ["module"]}
    model = Halves()
    groups = flat(build_optimizer(model, 0.1, train).param_groups)
    assert len(groups) == 4
    assert groups[id(model.module.weight)]["constant"] and not groups[id(model.rest.weight)].get("constant")


def test_moments_are_inherited_and_rates_are_not(tmp_path):
    train = {"optimizer": "adamw", "betas": [0.9, 0.95], "weight_decay": 0.05}
    model = torch.nn.Linear(4, 3)
    first = trained(build_optimizer(model, 0.1, train), model)
    torch.save(first.state_dict(), tmp_path / "optimizer.pt")
    second = build_optimizer(torch.nn.Linear(4, 3), 0.01, train)
    inherit_state(second, tmp_path / "encoder.safetensors")
    assert [group["lr"] for group in second.param_groups] == [0.01, 0.01]
    for kept, fresh in zip(first.state.values(), second.state.values(), strict=True):
        assert torch.equal(kept["exp_avg"], fresh["exp_avg"]) and kept["step"] == fresh["step"] == 3
    with pytest.raises(ConfigError, match=r"groups of .* parameters; expected .*: the same method and model"):
        deeper = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 3))
        inherit_state(build_optimizer(deeper, 0.1, train), tmp_path / "encoder.safetensors")
    with pytest.raises(
        ConfigError, match=r"there is no .*optimizer.pt; the teacher's run has to set train.publish_opt"
    ):
        inherit_state(second, tmp_path / "elsewhere/encoder.safetensors")


def test_layers_of_a_resnet_are_its_stages():
    encoder = build_encoder("resnet_micro", 16)
    told = layers_of(encoder)
    assert told["num_layers"] == 4
    names = {"encoder.conv1.weight": 0, "backbone.encoder.bn1.weight": 0, "encoder.layer1.0.conv1.weight": 1,
             "backbone.encoder.layer4.0.bn2.bias": 4, "head.weight": 5, "rpn_head.conv1.weight": 5}  # fmt: skip
    assert {name: told["layer_of"](name) for name in names} == names
    assert layers_of(build_encoder("vit_micro", 16)) == {"num_layers": 4}
