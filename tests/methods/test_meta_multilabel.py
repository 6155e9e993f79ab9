"""Meta-learned policies against a slow rewrite, the controls, and interruptions in any phase."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.distributions import Beta, Dirichlet

from pipeline.config import ConfigError
from pipeline.data.kinds import text
from pipeline.data.sources.text import typed_mentions
from pipeline.engine.objective import Objective
from pipeline.engine.phases import run_phases
from pipeline.engine.train import train
from pipeline.methods import build_method
from pipeline.nn.meta_learner import Learning, MetaLearner
from pipeline.nn.policies import REWARDS, Policies
from pipeline.nn.thresholds import tune_thresholds
from tests.data.sources.text.test_afet import MADE
from tests.methods import recipe
from tests.methods.conftest import build, context

GAUSSIAN = Policies(
    kind="gaussian", sigma=0.1, concentration=50.0, weight_scale="mean_one", threshold_range=[0.05, 0.95]
)
LEARNING = Learning(window=3, baseline="moving_average", momentum=0.9, lr=1e-2, clip_norm=1.0)


def batch(seed=0, num=6, labels=4):
    generator = torch.Generator().manual_seed(seed)
    return text.example(recipe("meta_multilabel"), 8) if num == 8 else (
        torch.rand(num, labels, generator=generator), (torch.rand(num, labels, generator=generator) < 0.4).float()
    )  # fmt: skip


def test_the_loss_is_the_weighted_cross_entropy():
    method = build("meta_multilabel").eval()
    method.emitted[1] = torch.tensor([0.5, 2.0, 0.25, 1.25])
    given = batch(num=8)
    loss = method(given["text"], given["targets"]).loss
    logits = method.head(method.encoder.forward_features(given["text"])).double()
    total = 0.0
    for i in range(8):
        for j in range(4):
            y, probability = given["targets"][i, j].double(), logits[i, j].sigmoid()
            total -= float(method.weights[j]) * (y * probability.log() + (1 - y) * (1 - probability).log())
    assert loss.item() == pytest.approx(total.item() / 32, rel=1e-5)


def test_rewards_are_those_of_their_formulas():
    predicted, targets = batch()
    thresholds = torch.tensor([0.3, 0.5, 0.7, 0.1])
    for j, reward in enumerate(REWARDS["margin"](thresholds, thresholds, predicted, targets).tolist()):
        p = thresholds[j].item()
        parts = [(-1) ** targets[i, j].item() * (p - predicted[i, j].item()) / p for i in range(6)]
        assert reward == pytest.approx(sum(parts) / 6, abs=1e-5)
    others = torch.tensor([0.6, 0.2, 0.4, 0.9])
    found = REWARDS["micro_f1"](thresholds, others, predicted, targets)
    for own in range(4):
        limits = [thresholds[j] if j == own else others[j] for j in range(4)]
        right = sum(predicted[i, j] > limits[j] and targets[i, j] == 1 for i in range(6) for j in range(4))
        said = sum(predicted[i, j] > limits[j] for i in range(6) for j in range(4))
        assert found[own].item() == pytest.approx(2 * int(right) / (int(said) + targets.sum().item()), abs=1e-6)
    assert REWARDS["micro_f1"](others, others, predicted, targets).unique().numel() == 1


def test_the_paper_s_reward_drives_a_threshold_to_an_end_of_its_range():
    """Its slope in p has one sign wherever p is: that of the mass on wrong labels less the mass on right ones."""
    predicted, targets = batch(3)
    mass = (predicted * (1 - 2 * targets)).sum(dim=0)
    for value in (0.1, 0.5, 0.9):
        thresholds = torch.full((4,), value, requires_grad=True)
        REWARDS["margin"](thresholds, thresholds, predicted, targets).sum().backward()
        assert torch.equal(thresholds.grad.sign(), mass.sign()) and (mass != 0).all()


def gru(parameters, state, given):
    """A GRU cell as its paper writes it."""
    w_i, w_h, b_i, b_h = parameters
    gi, gh = (w_i @ given + b_i).chunk(3), (w_h @ state + b_h).chunk(3)
    reset, update = (gi[0] + gh[0]).sigmoid(), (gi[1] + gh[1]).sigmoid()
    return (1 - update) * (gi[2] + reset * gh[2]).tanh() + update * state


@pytest.mark.parametrize("baseline", ["moving_average", "greedy", "none"])
def test_reinforce_is_the_slow_rewrite(baseline):
    """Twelve steps with given rewards: the weights that Adam leaves, from lists, loops and PyTorch's own Adam."""
    learning = Learning(**{**vars(LEARNING), "baseline": baseline})
    torch.manual_seed(0)
    meta = MetaLearner(3, 5, GAUSSIAN, [True, True], learning)
    cell, heads = meta.network.cell, meta.network.heads
    assert torch.equal(
        meta.policies.emit(meta.network(meta.state, torch.rand(2, 3))[1]), torch.tensor([[0.5] * 3, [1.0] * 3])
    )
    for head in heads:
        head.reset_parameters()
    own = [p.detach().clone().requires_grad_() for p in meta.network.parameters()]
    optimizer = torch.optim.Adam(own, lr=learning.lr)
    rewards, usual = torch.rand(2, 12, 3, generator=torch.Generator().manual_seed(1))
    states, previous, actions, returns, errors = [], [], [], [], []
    emitted = torch.stack([torch.full((3,), 0.5), torch.ones(3)])
    for step in range(12):
        states.append(meta.state.clone())
        previous.append(emitted.flatten())
        emitted = meta.act(emitted, explore=True)
        actions.append(meta.actions[-1].clone())
        expected = torch.stack([
            actions[-1][0].sigmoid().clamp(0.05, 0.95), 3 * actions[-1][1].exp() / actions[-1][1].exp().sum()
        ])  # fmt: skip
        assert torch.allclose(emitted, expected, atol=1e-6) and emitted[1].mean().item() == pytest.approx(1, abs=1e-6)
        meta.reward(rewards[step], usual[step])
        meta.reinforce()
        credited = step - 2
        if credited < 0:
            continue
        held = rewards - usual if baseline == "greedy" else rewards
        returns.append(torch.stack([sum(row[credited : step + 1]) for row in (held, rewards)]))
        if baseline == "greedy":
            returns[-1][0] = held[credited]
        errors.append(returns[-1].clone())
        for policy in range(2):
            if baseline == "moving_average" or (baseline, policy) == ("greedy", 1):
                kept = [0.9 ** (credited - 1 - n) for n in range(credited)]
                total = sum(k * g[policy] for k, g in zip(kept, returns[:-1], strict=True))
                errors[-1][policy] -= total / sum(kept) if credited else returns[-1][policy]
        kept = [0.9 ** (credited - n) for n in range(credited + 1)]
        spread = sum(k * e.square() for k, e in zip(kept, errors, strict=True)) / sum(kept)
        advantage = errors[-1] / spread.sqrt().clamp(min=1e-6)
        state = states[max(0, credited - 2)]
        for place in range(max(0, credited - 2), credited + 1):
            state = gru(own[:4], state, previous[place])
        logits = torch.stack([own[4] @ state + own[5], own[6] @ state + own[7]])
        log_prob = -((actions[credited] - logits) ** 2) / (2 * 0.1**2)
        optimizer.zero_grad()
        (-(log_prob * advantage).sum()).backward()
        nn.utils.clip_grad_norm_(own, 1.0, error_if_nonfinite=True)
        optimizer.step()
    for parameter, other in zip(meta.network.parameters(), own, strict=True):
        assert torch.allclose(parameter, other, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(own[4], nn.Linear(5, 3).weight) and int(meta.updates) == 10
    assert cell.input_size == 6 and len(heads) == 2


def test_what_is_not_learned_is_no_part_of_an_action():
    """The head of a policy that is fixed gets no gradient, so that it stays as it was."""
    torch.manual_seed(0)
    meta = MetaLearner(3, 5, GAUSSIAN, [True, False], LEARNING)
    before = {name: value.clone() for name, value in meta.network.state_dict().items()}
    for step in range(6):
        meta.act(torch.ones(2, 3), explore=True)
        meta.reward(torch.tensor([0.1, 0.5, 0.2]) * step**2, torch.zeros(3))
        meta.reinforce()
    moved = {name for name, value in meta.network.state_dict().items() if not torch.equal(value, before[name])}
    assert "heads.0.weight" in moved and not any(name.startswith("heads.1") for name in moved)


def test_without_noise_the_gradient_of_the_reward_is_followed():
    policies = Policies(**{**vars(GAUSSIAN), "kind": "deterministic"})
    torch.manual_seed(0)
    meta = MetaLearner(4, 5, policies, [True, False], LEARNING)
    predicted, targets = batch()
    mass = (predicted * (1 - 2 * targets)).sum(dim=0)
    emitted = torch.stack([torch.full((4,), 0.5), torch.ones(4)])
    for _ in range(200):
        emitted = meta.act(emitted, explore=True)
        meta.reward(torch.zeros(4), torch.zeros(4))
        meta.follow(lambda emitted: REWARDS["margin"](emitted[0], emitted[0], predicted, targets).mean())
    assert torch.equal(emitted[0], torch.where(mass > 0, 0.95, 0.05)), "each at an end of the range"


def test_reinforce_finds_the_thresholds_that_are_rewarded():
    torch.manual_seed(0)
    meta = MetaLearner(4, 16, GAUSSIAN, [True, True], Learning(**{**vars(LEARNING), "window": 1, "baseline": "greedy"}))
    wanted, emitted = torch.tensor([0.2, 0.4, 0.6, 0.8]), torch.stack([torch.full((4,), 0.5), torch.ones(4)])
    for _ in range(400):
        emitted = meta.act(emitted, explore=True)
        meta.reward(*(-(each[0] - wanted).square() for each in (emitted, meta.greedy)))
        meta.reinforce()
    assert torch.allclose(meta.act(emitted, explore=False)[0], wanted, atol=0.08)


def test_beta_and_dirichlet():
    policies = Policies(**{**vars(GAUSSIAN), "kind": "beta"})
    logits = torch.tensor([[-1.0, 0.0, 2.0], [0.0, 1.0, -1.0]])
    torch.manual_seed(0)
    drawn = torch.stack([policies.draw(logits) for _ in range(1000)])
    assert torch.allclose(drawn.mean(dim=0), policies.mean(logits), atol=0.02)
    assert torch.allclose(drawn[:, 1].sum(dim=1), torch.ones(1000), atol=1e-5)
    action, middle = drawn[0], logits[0].sigmoid()
    expected = Beta(50 * middle, 50 * (1 - middle)).log_prob(action[0]).sum()
    expected += Dirichlet(150 * logits[1].softmax(0)).log_prob(action[1])
    assert policies.log_prob(action, logits).sum().item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.equal(policies.emit(action)[1], 3 * action[1])
    with pytest.raises(ConfigError, match="weights share a sum; expected weight_scale mean_one or sum_one"):
        build("meta_multilabel", policy="beta", weight_scale="sigmoid")


@pytest.mark.parametrize(("scale", "total"), [("mean_one", 3.0), ("sum_one", 1.0)])
def test_weights_are_scaled(scale, total):
    emitted = Policies(**{**vars(GAUSSIAN), "weight_scale": scale}).emit(
        torch.tensor([[0.0, 9.0, -9.0], [0.0, 1.0, 2.0]])
    )
    assert emitted[1].sum().item() == pytest.approx(total) and emitted[0].tolist() == pytest.approx([0.5, 0.95, 0.05])
    free = Policies(**{**vars(GAUSSIAN), "weight_scale": "sigmoid", "threshold_range": None})
    assert free.emit(torch.tensor([[0.0, 9.0], [0.0, 9.0]]))[:, 1].tolist() == pytest.approx(
        [0.99988, 1.99975], abs=1e-4
    )


def test_tuned_thresholds_are_the_best_of_all_there_are():
    predicted, targets = batch(5, num=40, labels=4)
    predicted[:, 1], targets[:, 2] = (predicted[:, 1] * 5).round() / 5, 0  # ties; a label that never holds
    found = tune_thresholds(predicted, targets, None)
    for j in (0, 1, 3):
        tried = [0.0, *((a + 1e-6) for a in predicted[:, j].tolist())]
        scores = []
        for threshold in [*tried, found[j].item()]:
            said = predicted[:, j] > threshold
            scores.append((2 * (said & (targets[:, j] == 1)).sum() / (said.sum() + targets[:, j].sum())).item())
        assert scores[-1] == pytest.approx(max(scores), abs=1e-6)
    assert found[2] == 0.5
    assert tune_thresholds(predicted, targets, [0.4, 0.6]).tolist() == found.clamp(0.4, 0.6).tolist()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    (folder / "files").mkdir()
    typed_mentions.prepare(typed_mentions.Options(**MADE), folder / "work", folder / "files")
    return folder


def settings_of(**options):
    settings = recipe("meta_multilabel")
    settings["options"] |= {"num_episodes": 2, "window": 2, **options}
    settings["train"] |= {"duration": "4 steps", "batch_size": 16, "checkpoint_every": 2, "log_every": 1}
    return settings | {"episode": {"duration": "5 steps"}}


def trained(made, folder, fate=None, teacher=None, **options):
    """A method, and what each of its phases left; the step in `fate` fails."""
    settings, taken = settings_of(**options), []
    torch.manual_seed(0)
    method = build_method(settings, context(num_classes=25, teacher=teacher))
    plain = method.after_step

    def after_step():
        taken.append(1)
        if len(taken) == fate:
            raise InterruptedError
        plain()

    method.after_step = after_step

    def one(phase, *, work, seed, steps_before):
        return train(Objective(method, seed), text.open_train(made, phase.settings, seed), phase.settings["train"],
                     work=work, files=folder, seed=seed, phase=phase.name, steps_before=steps_before)  # fmt: skip

    folder.mkdir(exist_ok=True)
    phases = method.phases(settings, lambda changed: text.open_train(made, changed, 0))
    done, _ = run_phases(method, phases, one, work=folder, seed=0)
    return method, done


def same(first, second):
    return all(torch.equal(value, second[name]) for name, value in first.items())


def test_interrupted_in_any_phase_it_ends_with_the_same_bits(made, tmp_path):
    whole, done = trained(made, tmp_path / "whole")
    assert [phase["name"] for phase in done] == ["episode-1", "episode-2", "classifier"]
    for fate in (4, 5, 7, 2):  # steps of the process: in the first episode, at its end, in the second, in the last
        with pytest.raises(InterruptedError):
            trained(made, tmp_path / "cut", fate)
    method, again = trained(made, tmp_path / "cut")
    assert same(whole.state_dict(), method.state_dict())
    assert [phase["result"] for phase in again] == [phase["result"] for phase in done]
    assert (tmp_path / "whole/log.jsonl").read_text() == (tmp_path / "cut/log.jsonl").read_text()


CONTROLS = {
    "fixed": {"training_policy": "uniform", "prediction_policy": "fixed"},
    "tuned": {"training_policy": "uniform", "prediction_policy": "tuned"},
    "inverse": {"training_policy": "inverse_frequency", "prediction_policy": "fixed"},
    "random": {"training_policy": "random", "prediction_policy": "random"},
    "training": {"training_policy": "learned", "prediction_policy": "fixed"},
    "prediction": {"training_policy": "uniform", "prediction_policy": "learned"},
}


@pytest.mark.parametrize("name", CONTROLS)
def test_controls(made, tmp_path, name):
    method, done = trained(made, tmp_path / "run", **CONTROLS[name])
    thresholds, weights = method.emitted
    assert (len(done) == 3) == (name in ("training", "prediction")), "only what is learned has episodes"
    assert torch.equal(thresholds, torch.full((25,), 0.5)) == (name in ("fixed", "inverse", "training"))
    assert torch.equal(weights, torch.ones(25)) == (name in ("fixed", "tuned", "prediction"))
    assert weights.mean().item() == pytest.approx(1, abs=1e-5)
    if name == "inverse":
        counts = text.open_train(made, settings_of(), 0).space.counts
        ratio = counts.max() / counts[counts > 0].min()
        assert (weights.max() / weights.min()).item() == pytest.approx(ratio, rel=0.01) or counts.min() == 0
    if name == "tuned":
        found = method.predict(text.open_train(made, settings_of() | {"split": "val"}, 0))
        assert torch.equal(thresholds, tune_thresholds(*found, [0.05, 0.95]))
    if name == "random":
        assert thresholds.std() > 0.05


@pytest.fixture(scope="module")
def usual(made, tmp_path_factory):
    return trained(made, tmp_path_factory.mktemp("usual"))[0]


@pytest.mark.parametrize("options", [
    {"reward_batch": "held_out"}, {"reward": "micro_f1"}, {"credit": "own_label", "baseline": "none"},
    {"policy": "deterministic"}, {"policy": "beta"}, {"window": 1}, {"meta_every": 2}, {"threshold_range": None},
])  # fmt: skip
def test_choices_that_the_paper_leaves_open(made, tmp_path, usual, options):
    method, done = trained(made, tmp_path / "run", **options)
    updates = {"window": 10, "policy": 8 if options.get("policy") == "beta" else 10, "meta_every": 4}
    assert done[1]["result"]["updates"] == updates.get(next(iter(options)), 8)
    assert all(torch.isfinite(value).all() for value in method.state_dict().values())
    if "threshold_range" not in options:
        assert not same(usual.meta.network.state_dict(), method.meta.network.state_dict())


def test_a_reward_without_a_gradient_is_not_followed():
    with pytest.raises(ConfigError, match=r"policy is 'deterministic', and reward 'micro_f1' has no gradient"):
        build("meta_multilabel", policy="deterministic", reward="micro_f1")


class Learned:
    def __init__(self, method):
        self.whole = lambda: method


def test_a_trained_meta_learner_is_transferred_to_another_classifier(made, tmp_path):
    teacher, _ = trained(made, tmp_path / "teacher")
    settings = settings_of(num_episodes=0) | {"model": "typer_micro"}
    method = build_method(settings, context(num_classes=25, teacher=Learned(teacher)))
    assert same(teacher.meta.network.state_dict(), method.meta.network.state_dict())
    names = [phase.name for phase in method.phases(settings, lambda changed: text.open_train(made, changed, 0))]
    assert names == ["classifier"], "no episode"
    for other in (build("mae"), build("meta_multilabel")):
        with pytest.raises(ConfigError, match=r"has no meta-learner of 25 labels and 32 hidden units; expected a run"):
            build_method(settings, context(num_classes=25, teacher=Learned(other)))


def test_after_the_episodes_the_meta_learner_is_left_alone(made, tmp_path):
    method, done = trained(made, tmp_path / "run")
    assert done[2]["result"]["updates"] == done[1]["result"]["updates"] == 8
    first, second = (partial(method.meta.act, method.emitted.clone(), explore=False)() for _ in range(2))
    assert first.shape == second.shape == (2, 25)
