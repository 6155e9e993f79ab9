"""What a study asks of its data, held against how much there is: once a set is prepared, before anything reads it.

These rules follow from the names of settings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.config.durations import Duration
from pipeline.config.errors import ConfigError
from pipeline.config.study import Study

LEAST_PAIRS = 20  # of which a twentieth chooses


def check(study: Study, name: str, data: Mapping[str, Any], stages: Iterable[str], runs: Iterable[str]) -> None:
    """Check the settings of every cell that reads a set.

    Args:
        study: the study.
        name: of the set.
        data: what its manifest says of it: `splits` with the `count` of each.
        stages, runs: of the cells.

    Raises:
        ConfigError: on the first that the set is too small for.
    """
    train, val = (data["splits"][split]["count"] for split in ("train", "val"))
    for stage in stages:
        for run in runs:
            reads = study.runs[run].data if stage == "pretrain" else study.tasks[stage].data
            if reads.name == name and (stage == "pretrain" or run in study.tasks[stage].runs):
                where = f"runs.{run}" if stage == "pretrain" else f"tasks.{stage} of {run}"
                try:
                    _check(study.settings(stage, run), train, val)
                except ConfigError as error:
                    held = f"data.{name} has {train:,} training and {val:,} validation samples"
                    way_out = f"change it in {study.path} or its recipe, or take more data"
                    raise ConfigError(f"{held}, and {where} has {error}; {way_out}") from None


def _check(settings: Mapping[str, Any], train: int, val: int) -> None:
    among = train
    if "num_pairs" in settings:
        among = min(settings["num_pairs"], val) - 1
        if among + 1 < LEAST_PAIRS:
            raise ConfigError(f"{among + 1} pairs (num_pairs); expected at least {LEAST_PAIRS}")
    neighbours = settings.get("num_neighbours", 0)
    most = max(neighbours) if isinstance(neighbours, list) else neighbours
    if most > among:
        raise ConfigError(f"num_neighbours {neighbours}; expected at most {among:,}, of which they are searched")
    if "train" in settings and "weights" not in settings:
        held_out = round(settings.get("holdout_share", 0) * train)
        rates = settings["train"].get("base_lr")
        if isinstance(rates, list) and len(rates) > 1 and not held_out:
            share = settings.get("holdout_share", 0)
            raise ConfigError(f"holdout_share {share}, which holds out no sample to choose one of {rates} by")
        _check_training(settings["train"], train - held_out)


def _check_training(training: Mapping[str, Any], samples: int) -> None:
    if training["accumulate"] > samples:
        raise ConfigError(f"train.accumulate {training['accumulate']}; expected at most one for each of {samples:,}")
    batch = min(training["batch_size"], samples)
    duration, warmup = (training[key] for key in ("duration", "warmup"))
    steps, rising = (Duration.parse(length, "train.duration").steps(samples, batch) for length in (duration, warmup))
    if steps < 1:
        raise ConfigError(f"train.duration {duration!r}, which is no step of {batch} samples; expected one or more")
    if rising > steps:
        raise ConfigError(f"train.warmup {warmup!r}, {rising} steps of a training of {steps}; expected fewer")
