"""Meta-learned multi-label classification: a network learns thresholds and loss weights of labels for any classifier.

Wu, Xiong and Wang, "Learning to Learn and Predict: A Meta-Learning Approach for Multi-Label Classification", EMNLP
2019, arXiv:1909.04176. At each step of a classifier's training a GRU emits the weights w that its loss gives to labels
(the training policy) and the thresholds p above which labels are predicted (the prediction policy); after the step it
is rewarded for the classifier's probabilities, and learns by REINFORCE. Episodes train it on classifiers that begin
anew; then one more classifier is trained by the policies that it emits. B texts, N labels, T tokens.

Departures: only the abstract and the first page of the paper could be read and there is no code, so that all of this is
a reconstruction whose open choices are options. The classifier's loss is a mean over texts and labels rather than a
sum, which Adam does not tell apart. The rewards of a window are summed for its first action, so that an episode's last
actions are not credited; gradients reach as far back through the GRU. After the episodes there is no noise.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from mmengine import dist
from torch import Tensor, nn

from pipeline.config import ConfigError
from pipeline.methods.base import Context, Draw, Method, Open, Phase, Step
from pipeline.nn.meta_learner import Learning, MetaLearner
from pipeline.nn.policies import REWARDS, Policies
from pipeline.nn.thresholds import tune_thresholds

CHUNK = 512  # texts whose probabilities are computed at once


@dataclass(frozen=True, kw_only=True)
class MetaMultilabelOptions:
    """What is learned, and how; `config/recipes/meta_multilabel.yaml` gives the numbers with their sources.

    training_policy: weights of labels: `learned`, `uniform`, `inverse_frequency`, or `random`, others at every step.
    prediction_policy: thresholds: `learned`, `fixed` at one half, `tuned` on the validation split, or `random`.
    num_episodes: classifiers that the meta-learner is trained on; 0 where it is the teacher's.
    hidden_size: of the GRU.
    policy, sigma, concentration, weight_scale, threshold_range: see `pipeline.nn.policies.Policies`.
    reward: `margin`, the paper's, or `micro_f1`.
    reward_batch: `same`, on which the step was taken, or `held_out`, of the validation split.
    credit: a label's policies are credited with the mean reward of `all_labels`, or with that of their `own_label`,
        of the micro-F1 what its threshold alone changes.
    window, baseline, baseline_momentum, meta_lr, meta_clip_norm: see `pipeline.nn.meta_learner.Learning`.
    meta_every: steps of the classifier for one of the meta-learner.
    """

    training_policy: str
    prediction_policy: str
    num_episodes: int
    hidden_size: int
    policy: str
    sigma: float
    concentration: float
    weight_scale: str
    threshold_range: list[float] | None
    reward: str
    reward_batch: str
    credit: str
    window: int
    baseline: str
    baseline_momentum: float
    meta_lr: float
    meta_clip_norm: float
    meta_every: int


class MetaMultilabel(Method):
    Options = MetaMultilabelOptions

    def __init__(self, encoder: nn.Module, options: MetaMultilabelOptions, context: Context) -> None:
        super().__init__(encoder, options, context)
        if options.policy == "deterministic" and options.reward != "margin":
            raise ValueError(
                f"policy is 'deterministic', and reward {options.reward!r} has no gradient; expected margin"
            )
        chosen = (options.prediction_policy, options.training_policy)  # in the order of what is emitted
        self.learned, self.random = ([choice == name for choice in chosen] for name in ("learned", "random"))
        self.head = nn.Linear(encoder.embed_dim, context.num_classes)
        self.meta = MetaLearner(
            context.num_classes,
            options.hidden_size,
            Policies(
                kind=options.policy,
                sigma=options.sigma,
                concentration=options.concentration,
                weight_scale=options.weight_scale,
                threshold_range=options.threshold_range,
            ),
            self.learned,
            Learning(
                window=options.window,
                baseline=options.baseline,
                momentum=options.baseline_momentum,
                lr=options.meta_lr,
                clip_norm=options.meta_clip_norm,
            ),
        )
        if context.teacher is not None and options.num_episodes == 0:
            self.follow(context.teacher.whole())
        self.register_buffer("emitted", torch.ones(2, context.num_classes))
        self.register_buffer("reward", torch.tensor(0.0))
        self.exploring = False
        self.counts: Any = None  # of the training texts that each label has
        self.seen: tuple[Tensor, Tensor] | None = None
        self.restart()

    @property
    def thresholds(self) -> Tensor:
        """(N,), p."""
        return self.emitted[0]

    @property
    def weights(self) -> Tensor:
        """(N,), w."""
        return self.emitted[1]

    def follow(self, teacher: Method) -> None:
        """Take the meta-learner of a run that trained one.

        Raises:
            ConfigError: it has none, or one of other labels or another size.
        """
        try:
            self.meta.network.load_state_dict(teacher.meta.network.state_dict())  # type: ignore[union-attr, arg-type]
        except (AttributeError, RuntimeError):
            raise ConfigError(f"the teacher, {type(teacher).__name__}, has no meta-learner of {self.head.out_features} "
                              f"labels and {self.options.hidden_size} hidden units; expected a run of meta_multilabel "
                              "on the same labels, with as many") from None  # fmt: skip

    def phases(self, settings: Mapping[str, Any], open_samples: Open) -> Generator[Phase, Any, None]:
        options = self.options
        episode = {**settings, "train": settings["train"] | settings["episode"]}
        episode["text"] = settings["text"] | {"held_out": options.reward_batch == "held_out"}
        for number in range(options.num_episodes if any(self.learned) else 0):
            begin = partial(self.begin, exploring=True)
            yield Phase(name=f"episode-{number + 1}", settings=episode, begin=begin, end=self.told)

        def begin_last() -> None:
            if options.training_policy == "inverse_frequency":
                self.counts = open_samples(settings).space.counts  # type: ignore[attr-defined]
            self.begin(exploring=False)

        def end_last() -> dict[str, Any]:
            if options.prediction_policy == "tuned":
                found = self.predict(open_samples({**settings, "split": "val"}))
                self.emitted[0] = tune_thresholds(*found, options.threshold_range)
            return self.told()

        yield Phase(name="classifier", settings=settings, begin=begin_last, end=end_last)

    def begin(self, exploring: bool) -> None:
        """A classifier begins anew, and so do the policies."""
        for part in (*self.encoder.modules(), self.head):
            if hasattr(part, "reset_parameters"):
                part.reset_parameters()
        self.exploring = exploring
        self.restart()
        self.act()

    def restart(self) -> None:
        """p_0 = 1/2 and w_0 = 1, or what they are fixed at."""
        self.meta.restart()
        self.reward.zero_()
        weights = torch.ones_like(self.weights)
        if self.counts is not None:
            weights = 1 / torch.as_tensor(self.counts).clamp(min=1).to(weights)
        scale = 1 if self.options.weight_scale == "sum_one" else len(weights)
        self.emitted.copy_(torch.stack([torch.full_like(weights, 0.5), scale * weights / weights.sum()]))

    def inputs(self, batch: Mapping[str, Tensor], draw: Draw) -> dict[str, Tensor]:
        names = ("text", "targets", "held_text", "held_targets")
        return {name: batch[name] for name in names if name in batch}

    def forward(
        self, text: Tensor, targets: Tensor, held_text: Tensor | None = None, held_targets: Tensor | None = None
    ) -> Step:
        """One step of the classifier.

        Args:
            text: (B, 2, T), as the encoder takes it.
            targets: (B, N), 1 where a label holds.
            held_text, held_targets: other texts, for the reward.

        Returns:
            loss (): mean over texts and labels of w times the binary cross-entropy. parts: the last reward, and how the
            policies are spread.
        """
        held_out = self.options.reward_batch == "held_out" and held_text is not None
        self.seen = (held_text, held_targets) if held_out else (text, targets)  # type: ignore[assignment]
        logits = self.head(self.encoder.forward_features(text)).float()
        loss = (self.weights * F.binary_cross_entropy_with_logits(logits, targets, reduction="none")).mean()
        return Step(loss, parts={"reward": self.reward.clone(), **self.spreads()})

    @torch.no_grad()
    def after_step(self) -> None:
        """The reward of the policies for the classifier as it is now; the policies of the next step."""
        if self.exploring and self.seen is not None:
            text, targets = self.seen
            predicted, reward_of = self.probabilities(text), REWARDS[self.options.reward]
            alone, greedy = self.options.credit == "own_label", self.meta.greedy[0]
            rewards = torch.stack([
                reward_of(own, greedy if alone else own, predicted, targets) for own in (self.thresholds, greedy)
            ])  # fmt: skip
            self.meta.reward(*(rewards if alone else rewards.mean(1, True).expand_as(rewards)))
            self.reward.copy_(self.meta.rewards[-1, 1].mean())
            if int(self.meta.steps) % self.options.meta_every == 0:
                if self.options.policy == "deterministic":
                    self.meta.follow(lambda emitted: reward_of(emitted[0], emitted[0], predicted, targets).mean())
                else:
                    self.meta.reinforce()
        self.act()

    def act(self) -> None:
        """Emit the policies that are learned, draw those that are random."""
        noise = torch.randn_like(self.emitted)
        dist.broadcast(noise)
        drawn = replace(self.meta.policies, kind="gaussian").emit(noise)
        emitted = self.meta.act(self.emitted, self.exploring)
        for row in range(2):
            if self.learned[row] or self.random[row]:
                self.emitted[row] = emitted[row] if self.learned[row] else drawn[row]

    @torch.no_grad()
    def probabilities(self, text: Tensor) -> Tensor:
        """(B, 2, T) -> (B, N), without dropout."""
        training = self.encoder.training
        self.encoder.eval()
        found = self.head(self.encoder.forward_features(text)).float().sigmoid()
        self.encoder.train(training)
        return found

    def predict(self, samples: Any) -> tuple[Tensor, Tensor]:
        """Probabilities and targets of a whole split, (n, N) each, on the CPU."""
        found, device = [], self.head.weight.device
        for first in range(0, len(samples), CHUNK):
            batch = samples.__getitems__([(0, place) for place in range(first, min(first + CHUNK, len(samples)))])
            found.append((self.probabilities(batch["text"].to(device)).cpu(), batch["targets"]))
        probabilities, targets = (torch.cat(parts) for parts in zip(*found, strict=True))
        return probabilities, targets

    def spreads(self) -> dict[str, Tensor]:
        """Smallest, middle and largest threshold and weight, and the share of thresholds at the ends of their range."""
        ends = self.emitted.new_tensor(self.options.threshold_range or [0.0, 1.0])
        found = {"at_ends": (self.thresholds[:, None] == ends).any(dim=1).float().mean()}
        for name, values in (("threshold", self.thresholds), ("weight", self.weights)):
            found |= {f"{name}_min": values.min(), f"{name}_median": values.median(), f"{name}_max": values.max()}
        return found

    def told(self) -> dict[str, Any]:
        """What a phase left, for `phases.json`."""
        spread = {name: round(float(value), 6) for name, value in self.spreads().items()}
        return {**spread, "reward": round(float(self.reward), 6), "updates": int(self.meta.updates)}
