"""What a cell has to compute and to read: operations, samples, and the parameters that it publishes.

The rules of tasks follow from the names of their settings, so a task of the same names is planned without more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from types import ModuleType
from typing import Any

from pipeline.config import DataSet, Study, models
from pipeline.config.durations import Duration
from pipeline.cost import dense, sets
from pipeline.cost.encoders import Encoder, Unknown, build
from pipeline.cost.parts import Step

WEIGHT = 4  # bytes of a parameter
STATE = 4 * WEIGHT + 2  # of one that is trained: itself, its gradient, two moments, and itself in bfloat16
# Options of embedded sets that say how many samples are made.
MADE = {f"{split}_{unit}" for split in ("train", "val") for unit in ("images", "clips", "items")}
STATES = 3  # a checkpoint holds weights and two moments of each


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a cell does.

    flops: operations. precision: they run in. samples: that are read, as `loading` names them; None where nobody
    measured that. published, checkpoint: bytes of weights that stay, and of one checkpoint. batch: samples that all
    devices hold at once, 0 where nothing is trained. kept, states: bytes that a step keeps of each
    sample, and of the weights; 0 where that is not known. again: share of the blocks that is computed twice.
    """

    flops: float
    precision: str
    samples: float
    loading: str | None
    published: float = 0.0
    checkpoint: float = 0.0
    batch: float = 0.0
    kept: float = 0.0
    states: float = 0.0
    again: float = 0.0

    def memory(self, devices: int) -> float:
        """Bytes of each device of so many; 0 where that is not known."""
        return self.kept * self.batch / devices + self.states if self.kept else 0.0


def work_of(study: Study, stage: str, run: str) -> Work:
    """What a cell of a study does.

    Raises:
        Unknown: with the reason.
    """
    settings = study.settings(stage, run)
    if stage == "pretrain":
        return pretraining(study, run, settings)
    task = study.tasks[stage]
    model = study.settings("pretrain", run)["model"]
    if "pyramid" in settings:
        counts = count(task.data)
        return training(settings, dense.step(settings, model, counts["classes"]), counts["train"])
    if not {"feature", "drop_path"} & settings.keys():
        raise Unknown(f"there is no formula for {task.protocol}")
    return measuring(settings, model, count(task.data), moves=task.track == "video")


def pretraining(study: Study, run: str, settings: Mapping[str, Any]) -> Work:
    """A run's pretraining; one that trains nothing publishes its encoder."""
    own = study.runs[run]
    if "train" not in settings or "weights" in settings:
        encoder = _encoder(settings, settings["model"])
        return Work(
            flops=0.0, precision="float32", samples=0, loading=None, published=WEIGHT * encoder.whole.parameters
        )
    teacher = None if own.teacher is None else study.settings("pretrain", own.teacher)["model"]
    times = getattr(_formula(settings), "trainings", lambda settings: 1)(settings)
    done = training(settings, step_of(settings, teacher), count(own.data)["train"], publishes=True)
    return replace(done, flops=times * done.flops, samples=times * done.samples)


def step_of(settings: Mapping[str, Any], teacher: str | None) -> Step:
    """One sample of a method's step.

    Args:
        settings: its recipe.
        teacher: model of the run it learns from.
    """
    formula, encoder, learned = _formula(settings), _encoder(settings, settings["model"]), None
    if teacher is not None:
        sizes, side = models(), settings["augment"]["image_size"]
        grid = side // sizes[settings["model"]].get("patch_size", side)
        learned = build(teacher, grid * sizes[teacher].get("patch_size", side), settings["augment"].get("num_frames"))
    step: Step = formula.step(settings, encoder, learned)
    return step


def _formula(settings: Mapping[str, Any]) -> ModuleType:
    """What says of a method what its `step` costs and, where it is not one, how many `trainings` it has."""
    try:
        return import_module(f"pipeline.cost.methods.{settings['method']}")
    except ModuleNotFoundError:
        raise Unknown(f"there is no formula for {settings['method']}") from None


def measuring(settings: Mapping[str, Any], model: str, counts: Mapping[str, int], *, moves: bool) -> Work:
    """A task that gives an encoder whole samples, frozen or fine-tuned."""
    frames = settings["num_frames"] if moves else None
    encoder = build(model, settings["image_size"], frames, settings.get("tubelet") if moves else None)
    seen = settings.get("temporal_views", 1) * settings.get("spatial_crops", 1)  # of each sample in evaluation
    unaugmented = "clip" if moves else "plain"
    if "train" not in settings:
        samples = (_looked_at(settings, counts) + counts["val"]) * seen
        flops = samples * encoder.whole.forward
        return Work(flops=flops, precision="float32", samples=samples, loading=unaugmented)
    train, validation = counts["train"], counts["val"] * seen
    if "holdout_share" in settings:
        train = round(train * (1 - settings["holdout_share"]))
        step = Step(frozen=encoder.whole)
    else:
        outside = settings.get("num_out_classes", 0) / counts["classes"]
        train = round(train * (1 - outside)) if outside < 1 else train  # of an embedded set classes are not known
        step = Step(embedded=encoder.embed, trained=encoder.body)
    done = training(settings, step, train)
    flops = done.flops + validation * encoder.whole.forward
    return replace(done, flops=flops, samples=done.samples + validation)


def _looked_at(settings: Mapping[str, Any], counts: Mapping[str, int]) -> int:
    """Training samples that are read: all, or where few are labelled at most those of all subsets."""
    if "labels_per_class" not in settings or counts["classes"] == 1:  # of an embedded set classes are not known
        return counts["train"]
    return min(counts["train"], settings["num_subsets"] * max(settings["labels_per_class"]) * counts["classes"])


def count(data: DataSet) -> dict[str, int]:
    """Samples of `train` and `val`, and `classes`: of a prepared set, or as it is made, expected or known to be.

    Raises:
        Unknown: nothing says how many there are.
    """
    manifest = data.folder / "manifest.json"
    if manifest.is_file():
        found = json.loads(manifest.read_text())["data"]
        splits = {split: found["splits"][split]["count"] for split in ("train", "val") if split in found["splits"]}
        return {"classes": max(1, len(found.get("classes", ()))), **splits}
    known = sets.known(data)
    expected = data.options.get("expect") or {}
    made = {key.split("_")[0]: value for key, value in data.options.items() if key in MADE}
    counts = {"classes": 1, **({} if known is None else known.counts), **made, **expected}
    if not {"train", "val"} <= counts.keys():
        raise Unknown(f"how many samples {data.name} has is not known before it is prepared")
    return counts


def _encoder(settings: Mapping[str, Any], model: str) -> Encoder:
    augment = settings.get("augment", {})
    return build(model, augment.get("image_size", 224), augment.get("num_frames"))


def training(settings: Mapping[str, Any], step: Step, samples: int, *, publishes: bool = False) -> Work:
    """A training of so many samples an epoch."""
    train = settings["train"]
    again = train.get("activation_checkpointing", 0.0)
    batch = min(train["batch_size"], samples)
    seen = Duration.parse(train["duration"]).steps(samples, batch) * batch * settings.get("repeats", 1)
    augment = settings.get("augment", {})
    loading = augment.get("kind")
    if loading == "jitter" and not augment["jitter_share"]:
        loading = "crop"
    elif loading == "clip" and augment.get("policy"):
        loading = "clip, auto"
    pictures = 2 if settings.get("views", 1) == 2 or settings.get("same_class_share") is not None else 1
    return Work(
        flops=seen * step.flops,
        precision=train["precision"],
        samples=seen * pictures,
        loading=loading,
        published=WEIGHT * 2 * step.parameters if publishes else 0.0,  # the encoder, and all of the method
        checkpoint=WEIGHT * STATES * step.parameters,
        batch=batch * settings.get("repeats", 1) / train["accumulate"],
        kept=step.kept(again),
        states=STATE * step.parameters + WEIGHT * step.frozen.parameters,
        again=again,
    )
