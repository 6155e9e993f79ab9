"""The two policies of a meta-learner, a threshold for each label and a weight for each label's loss, and their rewards.

A network emits (2, N) logits, of the thresholds and of the weights; an action is drawn around them. N labels, B texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Beta, Dirichlet, Normal


@dataclass(frozen=True, kw_only=True)
class Policies:
    """How an action is drawn around logits, and what it means.

    kind: `gaussian`, on the logits; `beta`, of a threshold, with `Dirichlet` of the weights; `deterministic`, none.
    sigma: of the Gaussian. concentration: of the others, for each label.
    weight_scale: `mean_one`, `sum_one` or, where weights do not compete, `sigmoid`, from 0 to 2.
    threshold_range: to which thresholds are clamped; None for none.
    """

    kind: str
    sigma: float
    concentration: float
    weight_scale: str
    threshold_range: Sequence[float] | None

    def __post_init__(self) -> None:
        if self.kind == "beta" and self.weight_scale == "sigmoid":
            raise ValueError("policy is 'beta', whose weights share a sum; expected weight_scale mean_one or sum_one")

    def draw(self, logits: Tensor) -> Tensor:
        """An action (2, N)."""
        if self.kind == "gaussian":
            return Normal(logits, self.sigma).sample()
        return torch.stack([each.sample() for each in self._shares(logits)]) if self.kind == "beta" else logits

    def mean(self, logits: Tensor) -> Tensor:
        """The action (2, N) that is drawn around."""
        return torch.stack([logits[0].sigmoid(), logits[1].softmax(0)]) if self.kind == "beta" else logits

    def log_prob(self, action: Tensor, logits: Tensor) -> Tensor:
        """(2, N) log-densities, whose sum is that of the action; a Dirichlet's is shared out evenly."""
        if self.kind == "gaussian":
            return Normal(logits, self.sigma).log_prob(action)
        thresholds, weights = self._shares(logits)
        return torch.stack([thresholds.log_prob(action[0]), weights.log_prob(action[1]).expand(logits.shape[1])
                            / logits.shape[1]])  # fmt: skip

    def emit(self, action: Tensor) -> Tensor:
        """Thresholds and weights (2, N)."""
        thresholds, weights = action
        if self.kind != "beta":
            thresholds = thresholds.sigmoid()
            weights = weights.sigmoid() if self.weight_scale == "sigmoid" else weights.softmax(0)
        if self.threshold_range is not None:
            thresholds = thresholds.clamp(*self.threshold_range)
        return torch.stack(
            [thresholds, weights * {"mean_one": len(weights), "sum_one": 1, "sigmoid": 2}[self.weight_scale]]
        )

    def _shares(self, logits: Tensor) -> tuple[Beta, Dirichlet]:
        middle = logits[0].sigmoid().clamp(0.01, 0.99)
        thresholds = Beta(self.concentration * middle, self.concentration * (1 - middle))
        return thresholds, Dirichlet(self.concentration * logits.shape[1] * logits[1].softmax(0).clamp(min=1e-3))


def margin_reward(thresholds: Tensor, others: Tensor, probabilities: Tensor, targets: Tensor) -> Tensor:
    """(N,), mean over texts of (-1)^y (p - ŷ) / p: positive where right labels pass their threshold, wrong ones do not.

    Args:
        thresholds: (N,), p, of each label.
        others: (N,), of the labels beside it, which change nothing here.
        probabilities: (B, N), ŷ.
        targets: (B, N), y.
    """
    return ((1 - 2 * targets) * (thresholds - probabilities) / thresholds).mean(dim=0)


def f1_reward(thresholds: Tensor, others: Tensor, probabilities: Tensor, targets: Tensor) -> Tensor:
    """(N,), the batch's micro-F1 where a label has its threshold, and the labels beside it have those of `others`."""
    own, rest = ((probabilities > each).float() for each in (thresholds, others))
    right, said = (
        (rest * mask).sum() + ((own - rest) * mask).sum(dim=0) for mask in (targets, torch.ones_like(targets))
    )
    return 2 * right / (said + targets.sum()).clamp(min=1)


REWARDS = {"margin": margin_reward, "micro_f1": f1_reward}
