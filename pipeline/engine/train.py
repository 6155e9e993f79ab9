"""Training said once: from a section `train` of settings to optimiser, schedule, portions and loop.

Pretraining and every trained task share this glue and its keys:

    duration, warmup           `800 epochs` or `300 steps`
    batch_size, accumulate     samples of one step over all devices; micro-batches per device
    optimizer                  with its own `betas`, `momentum`, `eps`, ...; see `pipeline.engine.optim`
    base_lr or lr              peak rate × batch / 256 (the linear scaling rule of Goyal et al. 2017), or as it is
    schedule                   `cosine`, `poly` or `multistep`; see `pipeline.engine.schedules`
    weight_decay, layer_decay, clip_norm, precision, num_workers, checkpoint_every, log_every
    activation_checkpointing   share of a transformer's blocks that trade memory for time
    compile                    whether the blocks of transformers are compiled
    inherit_optimizer, publish_optimizer   go on with the teacher's moments; leave one's own to others
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine import dist
from mmengine.hooks import Hook
from torch import nn
from torch.utils.data import Dataset

from pipeline.config import ConfigError, Duration
from pipeline.data.images import as_it_is
from pipeline.engine.fit import Portions, fit
from pipeline.engine.optim import build_optimizer, inherit_state
from pipeline.engine.processes import connect
from pipeline.engine.schedules import build_schedule
from pipeline.files import written


def train(
    model: nn.Module,
    dataset: Dataset[Any],
    settings: Mapping[str, Any],
    *,
    work: Path,
    files: Path,
    seed: int,
    parts: Sequence[nn.Module] | None = None,
    no_decay: Iterable[str] = (),
    layers: Mapping[str, Any] | None = None,
    teacher: Path | None = None,
    phase: str = "",
    steps_before: int = 0,
    collate: Callable[[Any], Any] = as_it_is,
    hooks: Sequence[Hook] = (),
) -> dict[str, Any]:
    """Train a model as settings say, or go on where it was interrupted.

    Args:
        model, dataset, seed, phase, steps_before, collate, hooks: see `pipeline.engine.fit.fit`.
        settings: the keys above.
        work: where the checkpoints stand.
        files: where the log goes (`log.jsonl`), and the optimiser's state (`optimizer.pt`) where it is published.
        parts: of the model that are trained, each at the rate that stands in its place of a list; None for all of it.
        no_decay, layers: see `pipeline.engine.optim.param_groups`.
        teacher: encoder of the run whose optimiser is inherited.

    Returns:
        The cost, see `fit`.

    Raises:
        ConfigError: with the key that is wrong.
    """
    connect()
    num_samples: int = len(dataset)  # type: ignore[arg-type]
    sized = fitted(settings, num_samples)
    if sized["batch_size"] < settings["batch_size"] and dist.is_main_process():
        print(f"the batch of {settings['batch_size']} is cut to {sized['batch_size']}: the data set has "
              f"{num_samples} samples", flush=True)  # fmt: skip
    lr = peak_lr(sized)
    optimizer = build_optimizer(model, lr, sized, parts=parts, no_decay=no_decay, **(layers or {}))
    if sized.get("inherit_optimizer"):
        inherit_state(optimizer, teacher)
    cost = fit(
        model,
        dataset,
        optimizer,
        build_schedule(sized, sized["num_steps"], sized["warmup_steps"], max(lr) if isinstance(lr, list) else lr),
        Portions(
            **{key: sized[key] for key in ("num_steps", "batch_size", "accumulate", "precision", "num_workers")},
            checkpoint_every=sized["checkpoint_every"],
            log_every=sized["log_every"],
            clip_norm=sized.get("clip_norm"),
            activation_checkpointing=sized.get("activation_checkpointing", 0.0),
            compile=sized.get("compile", False),
        ),
        work=work,
        seed=seed,
        log_path=files / "log.jsonl",
        phase=phase,
        steps_before=steps_before,
        collate=collate,
        hooks=hooks,
    )
    if sized.get("publish_optimizer") and dist.is_main_process():
        with written(files / "optimizer.pt") as pending, open(pending, "wb") as file:
            torch.save(optimizer.state_dict(), file)
    return cost


def fitted(settings: Mapping[str, Any], num_samples: int) -> dict[str, Any]:
    """The settings for a data set of this size, with `num_steps` and `warmup_steps`.

    A set smaller than the batch is taken whole at every step: its batch is the largest that it fills and that processes
    can share evenly, and epochs and the rate follow from that. A share that cannot be cut into so many equal
    micro-batches is cut into fewer, so that their number never changes the batch.

    Raises:
        ConfigError: there are not enough samples for one each.
    """
    world = dist.get_world_size()
    batch_size, accumulate = settings["batch_size"], settings["accumulate"]
    if batch_size > num_samples:
        share = num_samples // world
        if not share:
            raise ConfigError(f"the data set has {num_samples} samples, and each of {world} processes takes one at "
                              "least; use fewer processes")  # fmt: skip
        batch_size = share * world
        accumulate = max(number for number in range(1, min(accumulate, share) + 1) if share % number == 0)
    lengths = {
        name: Duration.parse(settings[key], key).steps(num_samples, batch_size)
        for name, key in (("num_steps", "duration"), ("warmup_steps", "warmup"))
    }
    return {**settings, "batch_size": batch_size, "accumulate": accumulate, **lengths}


def peak_lr(settings: Mapping[str, Any]) -> Any:
    """The peak rate, or the list of them where several are tried.

    Raises:
        ConfigError: there is none, or both `base_lr` and `lr` are given.
    """
    given = [key for key in ("base_lr", "lr") if settings.get(key) is not None]
    if len(given) != 1:
        raise ConfigError(f"train has the rates {given}; expected one of base_lr (× batch / 256) and lr (as it is)")
    scale = settings["batch_size"] / 256 if given == ["base_lr"] else 1
    rate = settings[given[0]]
    return [each * scale for each in rate] if isinstance(rate, list) else rate * scale
