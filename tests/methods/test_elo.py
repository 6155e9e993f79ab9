"""Each of ELo's forty losses against a slow rewrite, and what a weight of zero saves."""

import math

import pytest
import torch

from pipeline.data.kinds import load_kind
from pipeline.methods.elo import OTHER, PARTNER, TERMS, Term, see
from tests.methods import recipe
from tests.methods.conftest import build


@pytest.fixture(scope="module")
def method():
    """Without batch statistics, so that a clip's losses are its own."""
    return build("elo_by_hand").eval()


@pytest.fixture(scope="module")
def batch():
    batch = load_kind("audiovisual").example(recipe("elo_by_hand"), 4)
    generator = torch.Generator().manual_seed(4)
    # Out of order or not, reversed or not, late or not.
    draws = torch.rand(4, 7, generator=generator)
    draws[:, 0], draws[:, 5], draws[:, 6] = (torch.tensor(values) for values in (
        [0.1, 0.9, 0.2, 0.8], [0.9, 0.1, 0.1, 0.9], [0.1, 0.1, 0.9, 0.9]))  # fmt: skip
    return batch, draws


def one_hot(*names):
    return torch.tensor([float(term.name in names) for term in TERMS])


def by_hand(method, batch, draws, term):
    """The mean over clips of a loss, clip by clip, from its words."""

    def parts(name, place):
        if name == "grey":
            red, green, blue = batch["video"][place].double()
            return (0.299 * red + 0.587 * green + 0.114 * blue)[None].float()
        return batch[{"rgb": "video"}.get(name, name)][place]

    def net(name, sample):
        network = method.encoder if name == "rgb" else method.networks[name]
        stages = network.stages(sample[None])
        return stages, stages[-1][0].flatten(1).mean(1)

    def half(name, sample, second):
        frames = sample.shape[1] if name != "sound" else sample.shape[2]
        places = range(frames // 2, frames) if second else range(frames // 2)
        return sample[:, list(places)] if name != "sound" else sample[:, :, list(places)]

    def at(name, sample, order):
        return sample[:, order] if name != "sound" else sample[:, :, order]

    def small(name, sample):
        size, frames = method.options.target_size, method.options.target_frames
        if name == "sound":
            bands, length = sample.shape[1:]
            rows, columns = (
                [slice(k * n // size, -(-(k + 1) * n // size)) for k in range(size)] for n in (bands, length)
            )
            grid = [[sample[0, row, column].mean() for column in columns] for row in rows]
            return torch.tensor(grid)[None, None]
        length, step = sample.shape[1], sample.shape[2] // size
        spans = [slice(f * length // frames, -(-(f + 1) * length // frames)) for f in range(frames)]
        cells = torch.stack([sample[:, span].mean(1) for span in spans], 1)
        return cells.unflatten(3, (size, step)).unflatten(2, (size, step)).mean((3, 5))

    def question(logit, answer):
        return math.log1p(math.exp(-logit if answer else logit))

    found, own, other = [], term.modality, PARTNER[term.modality]
    heads = method.heads[own]
    for place in range(len(draws)):
        if own == "sound" and not batch["heard"][place]:
            continue
        sample, number = parts(own, place), draws[place]
        length = sample.shape[1] if own != "sound" else sample.shape[2]
        if term.task in ("reconstruct", "predict", "transfer"):
            seen = half(own, sample, False) if term.task == "predict" else sample
            wanted = half(own, sample, True) if term.task == "predict" else sample
            name = own
            if term.task == "transfer":
                name, wanted = OTHER[own], parts(OTHER[own], place)
            made = heads[term.task](net(own, seen)[1][None])[0]
            found.append((made - small(name, wanted)).square().mean().item())
        elif term.task == "order":
            order = sorted(range(4), key=lambda k: number[1 + k].item()) if number[0] < 0.5 else [0, 1, 2, 3]
            frames = [k * length // 4 + f for k in order for f in range(length // 4)]
            found.append(
                question(heads["order"](net(own, at(own, sample, frames))[1])[0].item(), order != [0, 1, 2, 3])
            )
        elif term.task == "arrow":
            back = bool(number[5] < 0.5)
            frames = list(range(length))[::-1] if back else list(range(length))
            found.append(question(heads["arrow"](net(own, at(own, sample, frames))[1])[0].item(), back))
        elif term.task == "align":
            late = bool(number[6] < 0.5)
            pair = net(own, half(own, sample, False))[1], net(other, half(other, parts(other, place), late))[1]
            found.append(question(heads["align"](torch.cat(pair))[0].item(), late))
        elif term.task == "contrast":
            far = parts(other, (place - 1) % len(draws))
            pairs = (own, sample), (other, parts(other, place)), (other, far)
            x, near, far = (net(name, part)[1] for name, part in pairs)
            found.append(math.dist(x, near) + max(0.0, method.options.margin - math.dist(x, far)))
        else:
            theirs, ours = net(own, sample)[0][term.stage - 1][0], net("rgb", parts("rgb", place))[0][term.stage - 1][0]
            if own == "sound":
                theirs, ours = theirs.flatten(1).mean(1), ours.flatten(1).mean(1)
            found.append(math.sqrt((theirs - ours).double().square().sum()))
    return sum(found) / len(found)


@torch.no_grad()
def test_every_loss_is_its_slow_rewrite(method, batch):
    samples, draws = batch
    values = method.losses(method.samples(samples), draws)
    assert list(values) == list(TERMS) and len({term.name for term in TERMS}) == 40
    for term, value in values.items():
        assert value.item() == pytest.approx(by_hand(method, samples, draws, term), rel=1e-5, abs=1e-6), term.name


def test_the_loss_is_the_weighted_sum_over_first_values(method, batch):
    samples, draws = batch
    weights = torch.linspace(0, 1, 40)
    method.set_weights(weights)
    method.scales.copy_(torch.linspace(1, 3, 40))
    with torch.no_grad():
        step = method(**{name: samples[name] for name in ("video", "flow", "sound", "heard")}, draws=draws)
        values = method.losses(method.samples(samples), draws)
    by_term = dict(zip(TERMS, zip(weights.tolist(), method.scales.tolist(), strict=True), strict=True))
    expected = sum(by_term[term][0] * value.item() / by_term[term][1] for term, value in values.items())
    assert step.loss.item() == pytest.approx(expected, rel=1e-5) and "rgb.reconstruct" not in step.parts
    method.set_weights(torch.ones(40))
    method.scales.fill_(1.0)


@pytest.mark.parametrize(
    ("name", "networks", "stages"),
    [("rgb.order", {"rgb": 1}, 4), ("grey.align", {"rgb": 1, "grey": 1}, 4), ("flow.distil2", {"rgb": 1, "flow": 1}, 2),
     ("sound.predict", {"sound": 1}, 4)],
)  # fmt: skip
def test_a_weight_of_zero_costs_nothing(name, networks, stages, batch):
    method, (samples, draws) = build("elo_by_hand"), batch
    method.set_weights(one_hot(name))
    calls, heads = {}, []
    for modality in ("rgb", "grey", "flow", "sound"):
        network = method.network(modality)
        network.layer1.register_forward_hook(lambda *_, m=modality: calls.update({m: calls.get(m, 0) + 1}))
        last = getattr(network, f"layer{stages + 1}", None)
        if last is not None:
            last.register_forward_hook(lambda *_: pytest.fail("a stage that nothing asks for"))
        for task, head in method.heads[modality].items():
            head.register_forward_hook(lambda *_, n=f"{modality}.{task}": heads.append(n))
    loss = method(**{key: samples[key] for key in ("video", "flow", "sound", "heard")}, draws=draws).loss
    assert calls == networks and heads == ([] if "distil" in name else [name])
    loss.backward()
    if "distil" in name:
        assert all(p.grad is None for p in method.networks.parameters()), "RGB alone is drawn"
        assert method.encoder.layer2[0].conv1.spatial.weight.grad.abs().sum() > 0


def test_silent_clips_are_left_out(method, batch):
    samples, draws = batch
    other = {**samples, "sound": samples["sound"] + (~samples["heard"]).float().view(-1, 1, 1, 1) * 5}
    with torch.no_grad():
        one, two = (method.losses(method.samples(each), draws) for each in (samples, other))
        none = method.losses(method.samples({**samples, "heard": torch.zeros(4, dtype=torch.bool)}), draws)
    assert all(torch.equal(one[term], two[term]) for term in TERMS)
    assert all(none[term] == 0 for term in TERMS if term.modality == "sound")
    assert none[Term("rgb", "order")] == one[Term("rgb", "order")]


def test_views():
    clip = torch.arange(8.0).view(1, 1, 8, 1, 1).expand(2, -1, -1, -1, -1)
    draws = torch.tensor([[0.1, 0.9, 0.1, 0.5, 0.2, 0.1, 0.1], [0.9, 0.9, 0.1, 0.5, 0.2, 0.9, 0.9]])
    shown = {view: see(clip, view, draws)[:, 0, :, 0, 0].int().tolist() for view in ("shuffled", "turned", "either")}
    assert shown == {
        "shuffled": [[2, 3, 6, 7, 4, 5, 0, 1], list(range(8))],
        "turned": [list(range(8))[::-1], list(range(8))],
        "either": [[4, 5, 6, 7], [0, 1, 2, 3]],
    }


def test_weights_by_hand_and_from_a_search():
    alone = build("elo_by_hand", weights="arrow")
    assert [term.name for term in alone.active] == ["rgb.arrow", "grey.arrow", "flow.arrow", "sound.arrow"]
    drawn = build("elo_by_hand", weights="random").weights
    assert drawn.min() >= 0 and drawn.max() <= 1 and len(set(drawn.tolist())) == 40
    without = build("elo_by_hand", distillation=False)
    assert len(without.active) == 28

    class Searched:
        def whole(self):
            return type("Search", (), {"weights": torch.linspace(0, 1, 40)})

    assert torch.equal(build("elo", teacher=Searched()).weights, torch.linspace(0, 1, 40))
    with pytest.raises(ValueError, match="every loss has a weight of zero"):
        alone.set_weights(torch.zeros(40))


def test_losses_begin_at_their_weights(batch):
    method = build("elo_by_hand")
    samples = load_kind("audiovisual").example(recipe("elo_by_hand"), 8)

    class Examples:
        def __len__(self):
            return 8

        def __getitems__(self, pairs):
            return {name: value[[index for _, index in pairs]] for name, value in samples.items()}

    before = {name: value.clone() for name, value in method.named_buffers()}
    next(method.phases(recipe("elo_by_hand"), lambda settings: Examples())).begin()
    assert all(torch.equal(value, method.get_buffer(name)) for name, value in before.items() if name != "scales")
    draws = torch.rand(8, 7, generator=torch.Generator().manual_seed(0))
    step = method.train()(**{name: samples[name] for name in ("video", "flow", "sound", "heard")}, draws=draws)
    assert all(part.item() == pytest.approx(1, rel=1e-4) for part in step.parts.values())
