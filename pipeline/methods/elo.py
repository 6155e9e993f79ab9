"""ELo: networks for RGB, grey, flow and sound learn by many weighted losses together, and RGB from all the others.

Piergiovanni, Angelova and Ryoo, "Evolving Losses for Unsupervised Video Representation Learning", CVPR 2020,
arXiv:2002.12177. The loss is Σ λ[m, t] · L[m, t] over modalities and tasks, plus Σ λ[d] · L[d] over the places where
the RGB network is drawn to another one; the weights, each in [0, 1], are those that `elo_search` found, and a weight of
zero costs no computation. Only the RGB network is kept. B clips of T frames, D width of an embedding.

Departures: no code was released and of the paper only notes by others could be read, so much is chosen here. Each loss
is divided by its value at the first weights, or no weight of at most 1 could balance them. Tasks 3, 6 and 7 pair each
modality with one other (`OTHER`, `PARTNER`); two streams are aligned where both are of the clip's first half, and not
where the other is of its second. Networks are trained by their own tasks; distillation draws RGB alone. Sound is
compared as pooled activations. The targets of decoders are small. A clip without sound takes no part in its losses, but
in the statistics of its norms, as zeros.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config import models
from pipeline.methods.base import Context, Draw, Method, Open, Phase, Step
from pipeline.nn.modalities import CHANNELS, ClipDecoder, build_network, grey, reduced

MODALITIES = tuple(CHANNELS)
TASKS = ("reconstruct", "predict", "transfer", "order", "arrow", "contrast", "align")
OTHER = {"rgb": "flow", "grey": "flow", "flow": "rgb", "sound": "flow"}  # that a modality is to become
PARTNER = {"rgb": "flow", "grey": "rgb", "flow": "rgb", "sound": "rgb"}  # that it is compared with
STAGES = 4
SEGMENTS = 4  # of a clip that is put out of order
# What a network is given: whole clips, some of them out of order or reversed; halves, the first ones or drawn ones.
LONG, SHORT = ("whole", "shuffled", "turned"), ("first", "either")


class Term(NamedTuple):
    """One loss: a task of a modality, or the distance of RGB to it after a stage."""

    modality: str
    task: str
    stage: int = 0

    @property
    def name(self) -> str:
        return f"{self.modality}.{self.task}{self.stage or ''}"

    @property
    def views(self) -> tuple[tuple[str, str], ...]:
        """(modality, view) of each embedding, or maps, that it compares."""
        own, partner = self.modality, PARTNER[self.modality]
        return {
            "predict": ((own, "first"),),
            "order": ((own, "shuffled"),),
            "arrow": ((own, "turned"),),
            "contrast": ((own, "whole"), (partner, "whole")),
            "align": ((own, "first"), (partner, "either")),
            "distil": ((own, "whole"), ("rgb", "whole")),
        }.get(self.task, ((own, "whole"),))


TERMS = (
    *(Term(modality, task) for modality in MODALITIES for task in TASKS),
    *(Term(modality, "distil", stage) for modality in MODALITIES[1:] for stage in range(1, STAGES + 1)),
)


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """What full model and proxies share; `config/recipes/elo.yaml` gives the numbers with their sources.

    distillation: whether RGB is drawn to the other networks.
    margin: of the contrast, by which another clip is to be further away.
    decoder_width, decoder_depth: channels and transposed convolutions of each decoder.
    target_frames, target_size: of what they give.
    """

    distillation: bool
    margin: float
    decoder_width: int
    decoder_depth: int
    target_frames: int
    target_size: int


@dataclass(frozen=True, kw_only=True)
class ELoOptions(NetworkOptions):
    """weights: `evolved`, those of the teacher; `uniform`, all of them 1; `random`; or one of `TASKS`, alone."""

    weights: str


class ELo(Method):
    Options = ELoOptions

    def __init__(self, encoder: nn.Module, options: NetworkOptions, context: Context) -> None:
        super().__init__(encoder, options, context)
        size, width = models()[encoder.model_name], encoder.embed_dim
        self.networks = nn.ModuleDict({name: build_network(name, size) for name in MODALITIES[1:]})
        decoder = partial(
            ClipDecoder, width, options.decoder_width, frames=options.target_frames, size=options.target_size,
            depth=options.decoder_depth,
        )  # fmt: skip
        self.heads = nn.ModuleDict({
            name: nn.ModuleDict({
                "reconstruct": decoder(channels=CHANNELS[name]),
                "predict": decoder(channels=CHANNELS[name]),
                "transfer": decoder(channels=CHANNELS[OTHER[name]]),
                "order": nn.Linear(width, 1),
                "arrow": nn.Linear(width, 1),
                "align": nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, 1)),
            })
            for name in MODALITIES
        })  # fmt: skip
        self.register_buffer("weights", torch.ones(len(TERMS)))
        self.register_buffer("scales", torch.ones(len(TERMS)))  # of each loss, at the first weights
        self.set_weights(self.first_weights(context))

    def first_weights(self, context: Context) -> Tensor:
        """(n,) as the options say."""
        chosen = self.options.weights
        if chosen == "evolved":  # without a teacher, as where weights are read, what follows is read too
            return context.teacher.whole().weights if context.teacher else torch.ones(len(TERMS))
        if chosen == "random":
            return torch.rand(len(TERMS))
        if chosen == "uniform":
            return torch.ones(len(TERMS))
        return torch.tensor([float(term.task == chosen) for term in TERMS])

    def set_weights(self, weights: Tensor) -> None:
        """Take (n,) weights in [0, 1]; what no loss reaches then is not trained.

        Raises:
            ValueError: all of them are zero.
        """
        wanted = torch.tensor([self.options.distillation or term.task != "distil" for term in TERMS])
        self.weights.copy_(weights.to(self.weights) * wanted.to(self.weights))
        active = self.active
        if not active:
            raise ValueError("every loss has a weight of zero; expected one above it")
        depth = {
            name: max((term.stage or STAGES for term in active for own, _ in term.views
                       if own == name and (term.task != "distil" or own == "rgb")), default=0)
            for name in MODALITIES
        }  # fmt: skip
        for name in MODALITIES:
            network = self.network(name)
            network.requires_grad_(depth[name] > 0)
            for stage in range(depth[name] + 1, STAGES + 1):
                getattr(network, f"layer{stage}").requires_grad_(False)
            for task, head in self.heads[name].items():
                head.requires_grad_(Term(name, task) in active)

    @property
    def active(self) -> list[Term]:
        """Losses of a weight above zero."""
        return [term for term, weight in zip(TERMS, self.weights.tolist(), strict=True) if weight > 0]

    def network(self, modality: str) -> nn.Module:
        return self.encoder if modality == "rgb" else self.networks[modality]

    def phases(self, settings: Mapping[str, Any], open_samples: Open) -> Generator[Phase, Any, None]:
        yield Phase(settings=settings, begin=lambda: self.calibrate(settings, open_samples))

    @torch.no_grad()
    def calibrate(self, settings: Mapping[str, Any], open_samples: Open) -> None:
        """Measure each loss in use on one batch, so that it begins at its weight."""
        samples = open_samples(settings)
        number = min(settings["train"]["batch_size"], len(samples))  # type: ignore[arg-type]
        batch = samples.__getitems__([(0, index) for index in range(number)])  # type: ignore[attr-defined]
        draws = torch.rand(number, 2 + SEGMENTS + 1, generator=torch.Generator().manual_seed(0))
        kept = {name: value.clone() for name, value in self.named_buffers()}
        self.train()
        self.scales.fill_(1.0)
        values = self.losses(self.samples({name: value.to(self.scales.device) for name, value in batch.items()}),
                             draws.to(self.scales.device))  # fmt: skip
        for name, value in kept.items():  # running statistics are those of training alone
            self.get_buffer(name).copy_(value)
        self.scales.fill_(1.0)
        for place, term in enumerate(TERMS):
            if term in values:
                self.scales[place] = values[term].clamp(min=1e-6)

    def inputs(self, batch: Mapping[str, Tensor], draw: Draw) -> dict[str, Tensor]:
        return {name: batch[name] for name in ("video", "flow", "sound", "heard")} | {"draws": draw(2 + SEGMENTS + 1)}

    def forward(self, video: Tensor, flow: Tensor, sound: Tensor, heard: Tensor, draws: Tensor) -> Step:
        """One training step.

        Args:
            video: (B, 3, T, S, S). flow: (B, 2, T, S, S). sound: (B, 1, F, A), zeros where `heard` (B,) is False.
            draws: (B, 7) uniform: whether a clip is put out of order, its segments' order, whether it is reversed, and
                whether the other stream is late.

        Returns:
            loss (), and as `parts` each loss in use, over its value at the first weights.
        """
        values = self.losses(self.samples({"video": video, "flow": flow, "sound": sound, "heard": heard}), draws)
        weights = dict(zip(TERMS, self.weights, strict=True))
        scales = dict(zip(TERMS, self.scales, strict=True))
        parts = {term: value / scales[term] for term, value in values.items()}
        loss = torch.stack([weights[term] * part for term, part in parts.items()]).sum()
        return Step(loss, parts={term.name: part.detach() for term, part in parts.items()})

    def samples(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Each modality of a batch, and who is `heard`."""
        return {"rgb": batch["video"], "grey": grey(batch["video"]), "flow": batch["flow"], "sound": batch["sound"],
                "heard": batch["heard"]}  # fmt: skip

    def losses(self, samples: Mapping[str, Tensor], draws: Tensor) -> dict[Term, Tensor]:
        """() of each term in use; nothing is computed for the others."""
        active, answers = self.active, self.answers(draws)
        embeddings, maps = self.encode(samples, draws, active)
        found = {}
        for term in active:
            each = self.loss(term, samples, answers, embeddings, maps).float()  # (B,)
            there = samples["heard"].float() if term.modality == "sound" else torch.ones_like(each)
            found[term] = (each * there).sum() / there.sum().clamp(min=1)
        return found

    def answers(self, draws: Tensor) -> dict[str, Tensor]:
        """(B,) of the three questions, 1 for yes: out of order, reversed, late."""
        order = _order(draws)
        out = (order != torch.arange(SEGMENTS, device=order.device)).any(dim=1)
        return {"order": out.float(), "arrow": (draws[:, 5] < 0.5).float(), "align": (draws[:, 6] < 0.5).float()}

    def encode(
        self, samples: Mapping[str, Tensor], draws: Tensor, active: list[Term]
    ) -> tuple[dict[tuple[str, str], Tensor], dict[str, list[Tensor]]]:
        """Embeddings (B, D) by modality and view, and the stages' maps of whole clips; views of one length together."""
        needed = {view for term in active for view in term.views}
        embeddings, maps = {}, {}
        for name in MODALITIES:
            deepest = max((term.stage or STAGES for term in active if name in dict(term.views)), default=0)
            for group in (LONG, SHORT):
                views = [view for view in group if (name, view) in needed]
                if not views:
                    continue
                clips = torch.cat([see(samples[name], view, draws) for view in views])
                stages = self.network(name).stages(clips, deepest)
                if deepest == STAGES:
                    pooled = stages[-1].flatten(2).mean(dim=2).chunk(len(views))
                    embeddings |= {(name, view): part for view, part in zip(views, pooled, strict=True)}
                if "whole" in views:
                    maps[name] = [stage[: len(draws)] for stage in stages]
        return embeddings, maps

    def loss(
        self,
        term: Term,
        samples: Mapping[str, Tensor],
        answers: Mapping[str, Tensor],
        embeddings: Mapping[tuple[str, str], Tensor],
        maps: Mapping[str, list[Tensor]],
    ) -> Tensor:
        """One loss of each clip: (B,)."""
        name, task = term.modality, term.task
        if task == "distil":
            theirs, ours = maps[name][term.stage - 1].detach(), maps["rgb"][term.stage - 1]
            if name == "sound":
                theirs, ours = theirs.flatten(2).mean(dim=2), ours.flatten(2).mean(dim=2)
            return torch.linalg.vector_norm((theirs.float() - ours.float()).flatten(1), dim=1)
        own, *others = (embeddings[view] for view in term.views)
        if task == "contrast":
            near, far = others[0], others[0].roll(1, dims=0)  # of the next clip of the batch
            distances = [torch.linalg.vector_norm(own.float() - other.float(), dim=1) for other in (near, far)]
            return distances[0] + F.relu(self.options.margin - distances[1])
        head = self.heads[name][task]
        if task in answers:
            logits = head(torch.cat([own, *others], dim=1))[:, 0].float()
            return F.binary_cross_entropy_with_logits(logits, answers[task], reduction="none")
        wanted = {"reconstruct": samples[name], "predict": see(samples[name], "second"),
                  "transfer": samples[OTHER[name]]}[task]  # fmt: skip
        target = reduced(wanted, self.options.target_frames, self.options.target_size)
        return (head(own).float() - target.float()).square().flatten(1).mean(dim=1)

    @torch.no_grad()
    def pictures(self, step: Step, images: Tensor) -> dict[str, Tensor]:
        """Rows of (B, 3, T, S, S): the clips and, where the loss is in use, what was made of their embeddings."""
        if Term("rgb", "reconstruct") not in self.active:
            return {"input": images}
        embedding = self.encoder.forward_features(images)[:, 0]
        painted = self.heads["rgb"]["reconstruct"](embedding).float()
        return {"input": images, "reconstruction": F.interpolate(painted, size=images.shape[2:], mode="nearest")}


def see(samples: Tensor, view: str, draws: Tensor | None = None) -> Tensor:
    """Samples as a view has them; time is the third dimension of clips (B, C, T, S, S) and the last one of sound.

    Args:
        draws: (B, 7), of all views but `whole`, `first` and `second`.
    """
    axis = 2 if samples.ndim == 5 else 3
    if view == "whole":
        return samples
    if view == "shuffled":
        parts = torch.stack(samples.tensor_split(SEGMENTS, dim=axis), dim=1)  # (B, segments, ...)
        order = _order(draws).view(*draws.shape[:1], SEGMENTS, *[1] * (samples.ndim - 1)).expand_as(parts)
        return torch.cat(parts.gather(1, order).unbind(1), dim=axis)
    if view == "turned":
        return torch.where(_which(draws[:, 5] < 0.5, samples), samples.flip(axis), samples)
    first, second = samples.split(samples.shape[axis] // 2, dim=axis)[:2]
    if view == "either":
        return torch.where(_which(draws[:, 6] < 0.5, first), second, first)
    return first if view == "first" else second


def _order(draws: Tensor) -> Tensor:
    """(B, segments): how they follow each other, in their own order half of the time."""
    drawn = draws[:, 1 : 1 + SEGMENTS].argsort(dim=1)
    return torch.where(draws[:, :1] < 0.5, drawn, torch.arange(SEGMENTS, device=draws.device))


def _which(chosen: Tensor, samples: Tensor) -> Tensor:
    return chosen.view(-1, *[1] * (samples.ndim - 1))
