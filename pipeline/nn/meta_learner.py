"""A recurrent network that emits thresholds and weights of labels at every step and learns from rewards by REINFORCE.

Williams, "Simple statistical gradient-following algorithms for connectionist reinforcement learning", 1992. It keeps
its last steps and the moments of its own Adam in buffers, so that a training that was interrupted goes on exactly.
N labels, H hidden units, K steps of a window, R = 2 K - 1 steps that are kept.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from mmengine import dist
from torch import Tensor, nn

from pipeline.nn.policies import Policies

MOMENTS = (0.9, 0.999)  # Adam's


class Network(nn.Module):
    """s_t = GRU(s_{t-1}, [p_{t-1}; w_{t-1}]) with a linear head for each policy."""

    def __init__(self, num_labels: int, hidden_size: int) -> None:
        super().__init__()
        self.cell = nn.GRUCell(2 * num_labels, hidden_size)
        self.heads = nn.ModuleList(nn.Linear(hidden_size, num_labels) for _ in range(2))
        for head in self.heads:  # policies begin where p_0 and w_0 are
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def forward(self, state: Tensor, previous: Tensor) -> tuple[Tensor, Tensor]:
        """State (H,) and the last thresholds and weights (2, N) -> state (H,) and logits (2, N)."""
        state = self.cell(previous.reshape(1, -1), state[None])[0]
        return state, torch.stack([head(state) for head in self.heads])


@dataclass(frozen=True, kw_only=True)
class Learning:
    """How it learns.

    window: K, whose rewards are the return of the window's first action; 1 is the immediate reward.
    baseline: what returns are held against: `moving_average`, with `momentum`; `greedy`, for thresholds the reward of
        the action without noise on the same texts (Rennie et al. 2017, arXiv:1612.00563), and since thresholds change
        no later probabilities, theirs is the immediate reward; for weights the average; or `none`. They are divided by
        their running deviation in any case.
    lr, clip_norm: of Adam, and the largest norm of a gradient.
    """

    window: int
    baseline: str
    momentum: float
    lr: float
    clip_norm: float


class MetaLearner(nn.Module):
    """The network with what it remembers.

    Args:
        num_labels, hidden_size: N, H.
        policies: how actions are drawn.
        learned: of thresholds and weights, which are learned; others are no part of an action.
        learning: how.
    """

    def __init__(
        self, num_labels: int, hidden_size: int, policies: Policies, learned: Sequence[bool], learning: Learning
    ) -> None:
        super().__init__()
        self.policies, self.learning = policies, learning
        self.register_buffer("learned", torch.tensor(learned)[:, None], persistent=False)
        self.network = Network(num_labels, hidden_size).requires_grad_(False)  # it has an optimiser of its own
        size, rows = sum(parameter.numel() for parameter in self.network.parameters()), 2 * learning.window - 1
        for name, shape in {
            "state": (hidden_size,), "greedy": (2, num_labels), "returns": (2, num_labels), "spread": (2, num_labels),
            "states": (rows, hidden_size), "rewards": (rows, 2, num_labels),
            "previous": (rows, 2, num_labels), "actions": (rows, 2, num_labels),
            "first_moment": (size,), "second_moment": (size,),
        }.items():  # fmt: skip
            self.register_buffer(name, torch.zeros(shape))
        for name in ("steps", "credited", "updates"):
            self.register_buffer(name, torch.tensor(0))

    @torch.no_grad()
    def restart(self) -> None:
        """s_0 = 0, and nothing that could be credited; what was learned stays."""
        for name, value in self.named_buffers(recurse=False):
            if name not in ("first_moment", "second_moment", "updates", "learned"):
                value.zero_()

    @torch.no_grad()
    def act(self, emitted: Tensor, explore: bool) -> Tensor:
        """The policies (2, N) of the next step, drawn if it is to `explore`, from those of the last one, (2, N)."""
        state, logits = self.network(self.state, emitted)
        action = self.policies.draw(logits) if explore else self.policies.mean(logits)
        dist.broadcast(action)  # ranks draw numbers of their own
        kept = {"states": self.state, "previous": emitted, "actions": action, "rewards": torch.zeros_like(self.returns)}
        for name, value in kept.items():
            getattr(self, name).copy_(torch.cat([getattr(self, name)[1:], value[None]]))
        self.state.copy_(state)
        self.greedy.copy_(self.policies.emit(self.policies.mean(logits)))
        return self.policies.emit(action)

    @torch.no_grad()
    def reward(self, reward: Tensor, greedy: Tensor) -> None:
        """Note the step that was just taken: the rewards (N,) of each label for what was emitted, and for `greedy`."""
        self.steps += 1
        held = reward - greedy if self.learning.baseline == "greedy" else reward
        self.rewards[-1] = mean_of_ranks(torch.stack([held, reward]))

    @torch.no_grad()
    def reinforce(self) -> None:
        """Learn from the first action of the last window, once there is one."""
        window = self.learning.window
        if self.steps >= window:
            row, returns = len(self.rewards) - window, self.rewards[-window:].sum(dim=0)
            if self.learning.baseline == "greedy":
                returns[0] = self.rewards[row, 0]
            weights = self.learned * self.advantage(returns)
            self.step(lambda: -(weights * self.policies.log_prob(self.actions[row], self.logits_at(row))).sum())

    def follow(self, reward: Callable[[Tensor], Tensor]) -> None:
        """Learn from the gradient of a reward () of the policies (2, N) that were emitted last, without noise."""
        self.step(lambda: -reward(self.policies.emit(self.logits_at(len(self.rewards) - 1))))

    def advantage(self, returns: Tensor) -> Tensor:
        """(2, N) returns less what is usual, over their deviation; 0 of a first one that is held against itself."""
        keep, count = self.learning.momentum, int(self.credited)
        usual = self.returns / (1 - keep**count) if count else returns
        averaged = {"moving_average": [1, 1], "greedy": [0, 1], "none": [0, 0]}[self.learning.baseline]
        error = returns - usual * returns.new_tensor(averaged)[:, None]
        self.returns.mul_(keep).add_((1 - keep) * returns)
        self.spread.mul_(keep).add_((1 - keep) * error.square())
        self.credited += 1
        return error / (self.spread / (1 - keep ** (count + 1))).sqrt().clamp(min=1e-6)

    def logits_at(self, row: int) -> Tensor:
        """(2, N) of the action in a row of what is kept, through the K steps up to it, fewer where it began later."""
        first = max(len(self.states) - int(self.steps), row - self.learning.window + 1)
        state = self.states[first]
        for place in range(first, row + 1):
            state, logits = self.network(state, self.previous[place])
        return logits

    def step(self, loss: Callable[[], Tensor]) -> None:
        """One step of Adam."""
        parameters = list(self.network.parameters())
        self.network.requires_grad_(True)
        with torch.enable_grad():
            gradients = torch.autograd.grad(loss(), parameters, allow_unused=True, materialize_grads=True)
        self.network.requires_grad_(False)
        gradient = mean_of_ranks(torch.cat([each.flatten() for each in gradients]))
        gradient *= (self.learning.clip_norm / gradient.norm().clamp(min=1e-12)).clamp(max=1.0)
        self.updates += 1
        unbiased = []
        for moment, keep, power in zip((self.first_moment, self.second_moment), MOMENTS, (1, 2), strict=True):
            moment.mul_(keep).add_((1 - keep) * gradient**power)
            unbiased.append(moment / (1 - keep ** int(self.updates)))
        change = self.learning.lr * unbiased[0] / (unbiased[1].sqrt() + 1e-8)
        # In place: a product's last bits depend on where in memory its factors begin, and a resumed run has its own.
        parts = change.split([parameter.numel() for parameter in parameters])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.sub_(part.view_as(parameter))


def mean_of_ranks(value: Tensor) -> Tensor:
    """Its mean over all ranks."""
    value = value.clone()
    dist.all_reduce(value, "mean")
    return value
