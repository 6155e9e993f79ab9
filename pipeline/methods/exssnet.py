"""ExSSNeT: tasks one after the other, each in a subnetwork of its own, of which it trains what no earlier task uses.

Yadav and Bansal, "Exclusive Supermask Subnetwork Training for Continual Learning", Findings of ACL 2023,
arXiv:2210.10209. For each task t a mask M_t over the weights W is learned with W frozen (edge-popup, as in SupSup);
then W is trained where M_t is True and no earlier mask is, so that what earlier tasks compute never changes. The scores
of M_t may begin as those of the earlier task whose features tell the new classes apart best (KNN-based transfer).
B samples, T tasks, H heads of C outputs.

`learner` also makes what it is compared with: `supsup` trains no weights, `ssnet` all weights of M_t, `sequential` has
no masks and trains all weights task by task, and `multitask`, an upper bound, trains all weights and a head for each
task on all tasks at once.

Departures: only the algorithm of the released code could be read, not the paper's body. A phase ends with its last step
rather than with its best epoch, since the rate ends near 0; as in the code, trained weights are kept only where they
are no worse on the validation split. There is no reduction of the rate on a plateau, which the code feeds with accuracy
as if it were a loss. Validation samples are held out; `choose_on: test` is the code's way.
"""

import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pipeline.config import ConfigError
from pipeline.methods.base import Context, Draw, Method, Open, Phase, Step
from pipeline.nn.neighbours import neighbour_accuracy
from pipeline.nn.supermasks import layer_densities, new_scores, popup

MEASURED = 500  # samples of a batch whose logits are measured
TRIED = 0.2  # of a task's batches, on which transfer is decided; the released code


@dataclass(frozen=True, kw_only=True)
class ExSSNeTOptions:
    """Numbers of the method; `config/recipes/exssnet.yaml` gives them with their sources.

    learner: `exssnet`, `ssnet`, `supsup`, `sequential` or `multitask`, see above.
    num_tasks: T, of the stream. num_classes: C, of its task of most classes.
    density: share of the weights that a mask keeps.
    density_rule: `uniform` or `erdos_renyi`, how it is shared out over layers.
    transfer: where scores begin: `none`, at random; `knn_best`, at those of the best task if it beats chance;
        `knn_always`, of the best task; `knn_all`, at the mean of those of all tasks that beat chance.
    num_neighbours: that vote.
    mask_rate: `own`, or `weights`: masks learn at the rate of weights if these are trained, as in the released code.
    choose_on: `val` or `test`, the split on which trained weights must be no worse than the untrained ones.
    early_steps: of a mask's training, after which it is measured.
    """

    learner: str
    num_tasks: int
    num_classes: int
    density: float
    density_rule: str
    transfer: str
    num_neighbours: int
    mask_rate: str
    choose_on: str
    early_steps: int


class Measure(NamedTuple):
    """Of a task's samples: the share that is told right, and the SHA-256 of their logits."""

    accuracy: float
    digest: str


class ExSSNeT(Method):
    Options = ExSSNeTOptions

    def __init__(self, encoder: nn.Module, options: ExSSNeTOptions, context: Context) -> None:
        super().__init__(encoder, options, context)
        self.together = options.learner == "multitask"
        tasks, heads = (1, options.num_tasks) if self.together else (options.num_tasks, 1)
        encoder.grow(tasks, heads, options.num_classes)
        self.masked = options.learner in ("exssnet", "ssnet", "supsup")
        shapes = [layer.weight.shape for layer in encoder.layers]
        self.densities = layer_densities(shapes, options.density, options.density_rule)
        self.scores = nn.ModuleList(nn.ParameterList(map(new_scores, shapes)) for _ in range(options.num_tasks))
        if not self.masked:
            self.scores = nn.ModuleList()
        self.register_buffer("taken", torch.tensor(0))
        self.register_buffer("early", torch.full((options.num_tasks,), -1.0))
        for task in range(len(self.scores)):
            self.fix(task)
        self.initial: list[float] = []
        self.chosen: dict[str, Any] = {}
        self.focus(0, "masks" if self.masked else "weights")

    def inputs(self, batch: Mapping[str, Tensor], draw: Draw) -> dict[str, Tensor]:
        return {"samples": batch[self.encoder.takes], "labels": batch["labels"], "tasks": batch["task"]}

    def forward(self, samples: Tensor, labels: Tensor, tasks: Tensor) -> Step:
        """One training step, of the mask or of the weights.

        Args:
            samples: (B, ...), normalised.
            labels: (B,), places in the task's classes.
            tasks: (B,), that they are of; all one, but for `multitask`.

        Returns:
            loss: (), the mean cross-entropy; accuracy of the batch among `parts`.
        """
        if self.learning == "masks":
            for layer, scores, density in zip(self.encoder.layers, self.scores[self.task], self.densities, strict=True):
                layer.mask = popup(scores, density)
        logits = self.logits(samples, tasks).float()
        for layer in self.encoder.layers:
            layer.mask = None
        accuracy = (logits.argmax(dim=1) == labels).float().mean()
        return Step(cross_entropy(logits, labels), parts={"accuracy": accuracy})

    def logits(self, samples: Tensor, tasks: Tensor) -> Tensor:
        """(B, C) logits of the head of each sample's task, or of the one there is."""
        outputs = self.encoder(samples)
        return outputs[torch.arange(len(outputs), device=outputs.device), tasks % outputs.shape[1]]

    def phases(self, settings: Mapping[str, Any], open_samples: Open) -> Generator[Phase, Any, None]:
        options = self.options
        self.open, self.batch_size = (
            lambda changes: open_samples({**settings, **changes}),
            settings["train"]["batch_size"],
        )
        weights = settings["train"] | settings["weight_training"]
        masks = dict(settings["train"])
        if options.mask_rate == "weights" and options.learner != "supsup":
            masks["base_lr"] = weights["base_lr"]
        if options.learner in ("exssnet", "ssnet") and weights["weight_decay"]:
            raise ConfigError(
                f"train.weight_decay is {weights['weight_decay']}; expected 0.0, as it changes weights of earlier tasks"
            )
        if options.learner == "multitask":
            everything = settings | {"task": None, "train": weights}
            yield Phase(
                name="all tasks",
                settings=everything,
                begin=self.begin_together,
                end=lambda: self.told(0, {}, last=True),
            )
            return
        for task in range(options.num_tasks):
            own, before = settings | {"task": task}, None
            if self.masked:
                before = yield Phase(
                    name=f"task {task + 1}, mask",
                    settings=own | {"train": masks},
                    begin=lambda task=task: self.begin_mask(task),
                    end=lambda task=task: self.end_mask(task),
                )
            if options.learner != "supsup":
                yield Phase(
                    name=f"task {task + 1}, weights",
                    settings=own | {"train": weights},
                    begin=lambda task=task: self.begin_weights(task),
                    end=lambda task=task, before=before: self.end_weights(task, before),
                )

    def focus(self, task: int, learning: str) -> None:
        """Compute as a task from now on, and train its mask or the weights that it may change."""
        self.task, self.learning = task, learning
        self.encoder.switch(task)
        self.taken.zero_()
        self.requires_grad_(False)
        trained = self.scores[task] if learning == "masks" else nn.ParameterList(x.weight for x in self.encoder.layers)
        trained.requires_grad_(True)
        for layer, free in zip(self.encoder.layers, self.free(task), strict=True):
            layer.trained = free if learning == "weights" and self.masked else None

    def free(self, task: int) -> list[Tensor]:
        """F_t of each layer: the weights that a task may change, (*weight.shape) bool."""
        return [
            layer.masks[task] & ~layer.masks[:task].any(dim=0)
            if self.options.learner == "exssnet"
            else layer.masks[task]
            for layer in self.encoder.layers
        ]

    def begin_mask(self, task: int) -> None:
        """Let a task's scores begin where transfer says."""
        if task == 0:
            self.initial = self.accuracies()
        self.chosen = self.choose(task) if task > 0 and self.options.transfer != "none" else {}
        if earlier := self.chosen.get("from"):
            with torch.no_grad():
                for i, scores in enumerate(self.scores[task]):
                    scores.copy_(torch.stack([self.scores[j][i] for j in earlier]).mean(dim=0))
        self.focus(task, "masks")

    def end_mask(self, task: int) -> dict[str, Any]:
        """Fix the mask, and measure."""
        self.fix(task)
        told = {"chosen_on": self.measure(task, self.options.choose_on).accuracy, "transfer": self.chosen}
        return self.told(task, told, last=self.options.learner == "supsup")

    def begin_weights(self, task: int) -> None:
        """Free the weights that a task may change."""
        if task == 0 and not self.masked:
            self.initial = self.accuracies()
        self.focus(task, "weights")
        self.before = [layer.weight.detach().clone() for layer in self.encoder.layers]

    def end_weights(self, task: int, before: Mapping[str, Any] | None) -> dict[str, Any]:
        """See that no other weight has changed, undo a training that was for the worse, and measure."""
        for layer, old, free in zip(self.encoder.layers, self.before, self.free(task), strict=True):
            if not torch.equal(layer.weight[~free], old[~free]):
                raise RuntimeError(f"weights changed that task {task + 1} does not train")
        accuracy = self.measure(task, self.options.choose_on).accuracy
        kept = before is None or accuracy >= before["chosen_on"]
        if not kept:
            with torch.no_grad():
                for layer, old in zip(self.encoder.layers, self.before, strict=True):
                    layer.weight.copy_(old)
        return self.told(task, {"chosen_on": accuracy, "kept": kept}, last=True)

    def begin_together(self) -> None:
        """Train all weights on all tasks."""
        self.initial = self.accuracies()
        self.focus(0, "weights")

    def told(self, task: int, found: dict[str, Any], last: bool) -> dict[str, Any]:
        """A phase's result: what it found, and after the last of its task how all tasks are."""
        if self.early[task] < 0:  # it was a short training
            self.look()
        first = {"initial": self.initial} if task == 0 else {}
        return found | first | (self.measured(task) if last else {})

    @torch.no_grad()
    def fix(self, task: int) -> None:
        """Make a task's mask what its scores say."""
        for layer, scores, density in zip(self.encoder.layers, self.scores[task], self.densities, strict=True):
            layer.masks[task] = popup(scores, density) > 0.5

    def choose(self, task: int) -> dict[str, Any]:
        """Earlier tasks whose scores the new one takes, and how well each one's features tell its classes."""
        samples = self.open({"task": task})
        num_batches = math.ceil(TRIED * math.ceil(len(samples) / self.batch_size)) + 1
        some = torch.randperm(len(samples))[: num_batches * self.batch_size].tolist()
        labels, found = samples.labels[some], []
        for earlier in range(task):
            features = self.apply_to(samples, some, partial(self.encoder.forward_features, task=earlier))
            found.append(neighbour_accuracy(features, labels, self.options.num_neighbours))
        best, chance = max(range(task), key=found.__getitem__), 1 / len(labels.unique())
        if self.options.transfer == "knn_all":
            chosen = [j for j, accuracy in enumerate(found) if accuracy > chance]
        else:
            chosen = [best] if self.options.transfer == "knn_always" or found[best] > chance else []
        return {"from": chosen, "accuracies": found}

    def measured(self, task: int) -> dict[str, Any]:
        """What is known after a task: of each of the stream, accuracy and digest of the logits on its test samples."""
        rows = [self.measure(each, "test") for each in range(self.options.num_tasks)]
        accuracies, digests = zip(*rows, strict=True)
        return {"task": task, "accuracies": accuracies, "digests": digests, "early": self.early.tolist()}

    def accuracies(self) -> list[float]:
        """Of each task of the stream on its test samples."""
        return [self.measure(task, "test").accuracy for task in range(self.options.num_tasks)]

    def measure(self, task: int, split: str) -> Measure:
        """How a task is told, with its mask as it is fixed."""
        samples = self.open({"task": task, "split": split})
        indices = list(range(len(samples)))
        logits = self.apply_to(samples, indices, lambda pixels: self.encoder.answer(pixels, task))
        accuracy = (logits.argmax(dim=1) == samples.labels).double().mean()
        return Measure(float(accuracy), sha256(logits.numpy().tobytes()).hexdigest())

    @torch.no_grad()
    def apply_to(self, samples: Any, indices: Sequence[int], function: Callable[[Tensor], Tensor]) -> Tensor:
        """What a function of the network makes of samples: (N, ...) float32, on the CPU."""
        training, device = self.training, self.taken.device
        self.eval()
        found = [function(batch[self.encoder.takes].to(device)).float().cpu() for batch in batches_of(samples, indices)]
        self.encoder.switch(self.task)
        self.train(training)
        return torch.cat(found)

    def after_step(self) -> None:
        self.taken += 1
        if int(self.taken) == self.options.early_steps and (self.learning == "masks" or not self.masked):
            self.look()

    def look(self) -> None:
        """Measure what is being learned for the first time."""
        if self.masked:
            self.fix(self.task)
        for task in range(self.options.num_tasks) if self.together else [self.task]:
            self.early[task] = self.measure(task, "test").accuracy


def batches_of(samples: Any, indices: Sequence[int]) -> Iterator[dict[str, Tensor]]:
    """Batches of samples, always of the same size, as logits may depend on it in their last bit."""
    for first in range(0, len(indices), MEASURED):
        yield samples.__getitems__([(0, index) for index in indices[first : first + MEASURED]])
