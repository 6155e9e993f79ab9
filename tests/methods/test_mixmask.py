"""MixMask against a slow rewrite over pairs of images, its queue, its momentum, and where its gradients stop."""

import copy
import math

import pytest
import torch
from timm.models.resnet import BasicBlock
from torch import nn

from pipeline.config import ConfigError
from pipeline.masking.filling import num_draws
from pipeline.methods import build_method
from pipeline.methods.mixmask import unmix
from pipeline.nn.encoders import build_encoder
from tests.masking.test_blockwise import slow_mask
from tests.methods import recipe
from tests.methods.conftest import Taught, build, context

NUM = num_draws("block", 4) + 5


def inputs(count=6):
    return torch.randn(count, 3, 16, 16), torch.randn(count, 3, 16, 16), torch.rand(NUM), torch.rand(count)


def unit(x):
    return x / x.norm(dim=1, keepdim=True)


def slow_contrast(queries, keys, queue, temperature):
    """Cross-entropy of each query's own key among the queue's, one logit at a time."""
    total = 0.0
    for query, key in zip(queries, keys, strict=True):
        logits = [(query @ key).item() / temperature] + [(query @ other).item() / temperature for other in queue]
        total += math.log(sum(math.exp(logit) for logit in logits)) - logits[0]
    return total / len(queries)


def slow_unmix(images, draws):
    """A blend with the reversed batch or a rectangle of it, pixel by pixel; and the share of the own image."""
    share, other = draws[0].item(), images.flip(0)
    if draws[1] < 0.5:
        return share * images + (1 - share) * other, share
    height, width = images.shape[2:]
    cut = math.sqrt(1 - share)
    tall, wide, y, x = int(height * cut), int(width * cut), int(draws[2] * height), int(draws[3] * width)
    top, bottom = max(y - tall // 2, 0), min(y + tall // 2, height)
    left, right = max(x - wide // 2, 0), min(x + wide // 2, width)
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = other[:, :, top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)


def slow_mixmask(method, images, view, noise, order):
    """Loss and mixed view by the spec's table of terms; in training, where BatchNorm takes each batch's statistics."""
    method, options, count = copy.deepcopy(method).train(), method.options, len(images)

    def towers(x, encoder, *heads):
        features = encoder.forward_features(x).mean(dim=(2, 3))
        for head in heads:
            features = head(features)
        return unit(features)

    def answer(x):
        return towers(x, method.encoder, method.projector, *([] if options.base == "moco" else [method.predictor]))

    def target(x):
        parts = (
            (method.encoder, method.projector)
            if options.base == "simsiam"
            else (method.key.encoder, method.key.projector)
        )
        return towers(x, *parts)

    def compare(a, b):
        if options.base == "moco":
            return slow_contrast(a, b, method.queue, options.temperature)
        cosine = (a * b).sum(dim=1).mean().item()
        return -cosine if options.base == "simsiam" else 2 - 2 * cosine

    keys = target(view)
    loss = compare(answer(images), keys)
    if options.base != "moco":
        loss = (loss + compare(answer(view), target(images))) / 2

    def add(mixed, share, partner):
        features, other = answer(mixed), torch.empty_like(keys)
        for i in range(count):  # image partner[i] fills the mixture of image i
            other[partner[i]] = features[i]
        return share * compare(features, keys) + (1 - share) * compare(other, keys)

    reversed_ = [count - 1 - i for i in range(count)]
    if options.unmix:
        loss += add(*slow_unmix(images, noise[-5:-1]), reversed_)
    if options.fill == "none":
        return loss, None
    partner = sorted(range(count), key=lambda i: order[i].item()) if options.unmix else reversed_
    cells = slow_mask(noise, (4, 4), 8, 4, exact=False).view(4, 4)
    mixed, own = torch.empty_like(images), 0
    for i in range(count):
        for row in range(16):
            for column in range(16):
                keep = bool(cells[row // 4, column // 4])
                own += keep / 256 / count
                other = 0.0 if options.fill == "zeros" else images[partner[i], :, row, column]
                mixed[i, :, row, column] = images[i, :, row, column] if keep else other
    share = 1.0 if options.fill == "zeros" else own if options.soft_distance else 0.5
    return loss + add(mixed, share, partner), mixed


@pytest.mark.parametrize("base", ["moco", "simsiam", "byol"])
@pytest.mark.parametrize(
    "changes", [{}, {"soft_distance": False}, {"fill": "zeros"}, {"fill": "none"}, {"unmix": True},
                {"unmix": True, "fill": "none"}],
    ids=lambda changes: ",".join(f"{name}={value}" for name, value in changes.items()),
)  # fmt: skip
def test_loss_and_mixed_view_equal_a_slow_rewrite(base, changes):
    torch.manual_seed(7)
    method = build("mixmask", base=base, queue_size=64, **changes)
    if method.key is not None:  # as after some steps
        for parameter in method.key.parameters():
            parameter.data += 0.02 * torch.randn_like(parameter)
    given = inputs()
    with torch.no_grad():
        loss, mixed = slow_mixmask(method, *given)
        step = method.train()(*given)
    assert step.loss.item() == pytest.approx(loss, rel=1e-5)
    assert (step.seen is None and mixed is None) or torch.equal(step.seen, mixed)


@pytest.mark.parametrize("kind", [0.2, 0.8])
def test_unmix_blends_or_cuts(kind):
    images = torch.randn(4, 3, 16, 16)
    for draws in torch.rand(30, 4):
        draws[1] = kind
        mixed, share = unmix(images, draws)
        expected, expected_share = slow_unmix(images, draws)
        assert torch.allclose(mixed, expected, atol=1e-6)
        assert share.item() == pytest.approx(expected_share, abs=1e-6)


def masked_by(mask, monkeypatch, method, given):
    monkeypatch.setattr("pipeline.methods.mixmask.filling_mask", lambda *_: mask)
    return method.train()(*given)


def test_a_view_that_is_all_its_own_repeats_the_clean_one(monkeypatch):
    step = masked_by(torch.ones(4, 4, dtype=torch.bool), monkeypatch, build("mixmask"), given := inputs())
    assert torch.equal(step.seen, given[0]) and step.parts["own_area"] == 1
    assert step.loss.item() == pytest.approx(2 * step.parts["clean"].item(), rel=1e-6)


def test_the_complement_of_a_mask_is_the_same_view_of_the_partner(monkeypatch):
    method, given, mask = build("mixmask"), inputs(), torch.rand(4, 4) < 0.4
    one, other = (masked_by(cells, monkeypatch, method, given) for cells in (mask, ~mask))
    assert torch.equal(one.seen, other.seen.flip(0))
    assert one.parts["own_area"].item() == pytest.approx(1 - other.parts["own_area"].item())
    assert one.parts["mixed"].item() == pytest.approx(other.parts["mixed"].item(), rel=1e-5)


def test_partners_of_partners_are_those_of_a_loop():
    """With partners at random, image i stands in the mixture of the image it was drawn for."""
    method = build("mixmask", unmix=True)
    images, view, noise, order = inputs()
    _, partner = torch.sort(order)
    inverse = [next(j for j in range(6) if partner[j] == i) for i in range(6)]
    assert partner.argsort().tolist() == inverse
    step = method(images, view, noise, order)
    hidden = (step.seen != images).flatten(1)
    for i in range(6):
        assert torch.equal(step.seen[i].flatten()[hidden[i]], images[partner[i]].flatten()[hidden[i]])


def test_the_queue_holds_clean_keys_in_order_and_begins_again():
    method = build("mixmask", queue_size=16).train()
    before, batches = method.queue.clone(), [inputs(8) for _ in range(3)]
    assert torch.allclose(before.norm(dim=1), torch.ones(16), atol=1e-6)
    keys = []
    for given in batches:
        with torch.no_grad():
            keys.append(unit(copy.deepcopy(method.key)(given[1])))  # of the second view, which nothing was mixed into
            method(*given)
        assert torch.equal(method.queue, before)  # until the step is taken
        method.after_step()
        before = method.queue.clone()
        assert method.pointer == 8 * len(keys) % 16
    assert torch.allclose(method.queue, torch.cat([keys[2], keys[1]]), atol=1e-6)


def test_what_is_only_looked_at_does_not_enter_the_queue():
    method = build("mixmask").eval()
    before = method.queue.clone()
    method(*inputs(8))
    method.after_step()
    assert torch.equal(method.queue, before) and method.pointer == 0


@pytest.mark.parametrize("base", ["moco", "byol"])
def test_the_momentum_encoder_follows_in_its_parameters_only(base):
    method = build("mixmask", base=base, momentum=0.9).train()
    for (name, key), query in zip(method.key.encoder.named_parameters(), method.encoder.parameters(), strict=True):
        assert torch.equal(key, query) and not key.requires_grad, name
    for parameter in method.parameters():
        if parameter.requires_grad:
            parameter.data += 1
    method(*inputs())
    before = copy.deepcopy(method.key.state_dict())
    method.after_step()
    parameters = {name for name, _ in method.key.named_parameters()}
    queries = {**{f"encoder.{n}": v for n, v in method.encoder.state_dict().items()},
               **{f"projector.{n}": v for n, v in method.projector.state_dict().items()}}  # fmt: skip
    for name, value in method.key.state_dict().items():
        expected = 0.9 * before[name] + 0.1 * queries[name] if name in parameters else before[name]
        assert torch.allclose(value.double(), expected.double(), atol=1e-6), name
    assert not torch.equal(method.key.encoder.bn1.running_mean, method.encoder.bn1.running_mean)


@pytest.mark.parametrize("base", ["moco", "simsiam", "byol"])
def test_gradients_stop_at_the_targets(base):
    method = build("mixmask", base=base).train()
    images, view, noise, order = inputs()
    assert not method.clean(images, view)[1].requires_grad
    view.requires_grad_()
    method(images, view, noise, order).loss.backward()
    assert (view.grad is None) == (base == "moco")  # elsewhere it is a query too
    assert all(p.grad is None for name, p in method.named_parameters() if name.startswith("key."))
    assert method.projector[0].weight.grad.abs().sum() > 0


def test_simsiam_predicts_the_other_side_held_fast():
    """Against a rewrite in which the targets are numbers from an earlier pass."""
    method = build("mixmask", base="simsiam", fill="none").train()
    images, view, noise, order = inputs()
    method(images, view, noise, order).loss.backward()
    got = {name: p.grad.clone() for name, p in method.named_parameters()}
    method.zero_grad()
    with torch.no_grad():
        fixed = [unit(method.projector(method.encoder.forward_features(x).mean((2, 3)))) for x in (images, view)]
    predicted = [
        unit(method.predictor(method.projector(method.encoder.forward_features(x).mean((2, 3)))))
        for x in (images, view)
    ]
    (-((predicted[0] * fixed[1]).sum(1).mean() + (predicted[1] * fixed[0]).sum(1).mean()) / 2).backward()
    for name, parameter in method.named_parameters():
        assert torch.allclose(got[name], parameter.grad, atol=1e-6), name


def test_mixed_views_have_statistics_of_their_own():
    method = build("mixmask").train()
    passes = []
    method.encoder.conv1.register_forward_hook(lambda module, given, result: passes.append(given[0]))
    images, view, noise, order = inputs()
    step = method(images, view, noise, order)
    assert len(passes) == 2 and torch.equal(passes[0], images) and torch.equal(passes[1], step.seen)


def test_residual_branches_may_begin_at_zero():
    method = build("mixmask", base="simsiam", zero_init_last=True)
    blocks = [module for module in method.encoder.modules() if isinstance(module, BasicBlock)]
    assert len(blocks) == 4 and all((block.bn2.weight == 0).all() for block in blocks)
    assert all((block.bn2.weight == 1).all() for block in build("mixmask").encoder.modules()
               if isinstance(block, BasicBlock))  # fmt: skip


def test_norms_are_synchronised_where_there_are_gpus_to_share_them(monkeypatch):
    plain = build("mixmask", base="byol", sync_norms=True)
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in plain.modules())  # alone, on a CPU
    monkeypatch.setattr("pipeline.methods.mixmask.is_initialized", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    synced = build("mixmask", base="byol", sync_norms=True)
    norms = [module for module in synced.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) > 20 and all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)
    assert synced.state_dict().keys() == plain.state_dict().keys()  # published as it always is
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in build("mixmask").modules())


def test_a_transformer_can_be_trained_too():
    step = build("mixmask", model="vit_micro")(*inputs())
    assert torch.isfinite(step.loss)


def test_the_paper_s_projector():
    with torch.device("meta"):
        settings = recipe("mixmask", "paper")
        settings["options"]["queue_size"] = 256
        method = build_method(settings, context(batch_size=256))
    assert [tuple(p.shape) for p in method.projector.parameters()] == [(2048, 2048), (2048,), (128, 2048), (128,)]
    assert method.encoder.embed_dim == 2048 and set(method.key.encoder.state_dict()) == set(
        build_encoder("resnet50", 224).state_dict()
    )


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"zero_init_last": True, "model": "vit_micro"}, "zero_init_last is set, and vit_micro has no residual blocks"),
        ({"grid_size": 2}, "grid_size is 2; expected at least 4"),
        ({"queue_size": 20}, "queue_size is 20 and batch_size 8; expected a multiple of the batch size, such as 16"),
    ],
)
def test_mistakes_are_told_when_it_is_built(changes, message):
    with pytest.raises(ConfigError, match=message):
        build("mixmask", Taught(), **changes)
