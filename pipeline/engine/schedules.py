"""Learning-rate schedules: functions from the step to a factor of each group's own rate.

They are set before every optimiser step, so the warm-up's first step has a rate of 0, as in the papers' code.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.config import ConfigError

Schedule = Callable[[int], float]


def build_schedule(train: Mapping[str, Any], num_steps: int, warmup_steps: int, lr: float) -> Schedule:
    """The schedule that a section `train` of settings names.

    Args:
        train: `schedule`, by default `cosine`; `warmup_start`, by default 0; `min_lr` for `cosine` and `poly`, `power`
            for `poly`, `milestones` (fractions of the training) and `gamma` for `multistep`.
        num_steps, warmup_steps: of the training.
        lr: peak rate, of which `min_lr` is a fraction.

    Raises:
        ConfigError: there is no such schedule.
    """
    name, start = train.get("schedule", "cosine"), train.get("warmup_start", 0.0)
    final = train.get("min_lr", 0.0) / (lr or 1.0)
    if name == "cosine":
        return warmup_cosine(num_steps, warmup_steps, final, start)
    if name == "poly":
        return warmup_poly(num_steps, warmup_steps, train["power"], start, final)
    if name == "multistep":
        milestones = [round(share * num_steps) for share in train["milestones"]]
        return warmup_multistep(milestones, warmup_steps, train["gamma"], start)
    raise ConfigError(f"train.schedule is {name!r}; available: ['cosine', 'multistep', 'poly']")


def warmup_cosine(num_steps: int, warmup_steps: int, final: float = 0.0, start: float = 0.0) -> Schedule:
    """Linear warm-up from `start`, then half a cosine from 1 to `final` (fractions of the peak rate)."""

    def factor(step: int) -> float:
        if step < warmup_steps:
            return start + (1 - start) * step / warmup_steps
        progress = (step - warmup_steps) / max(1, num_steps - warmup_steps)
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))

    return factor


def warmup_poly(num_steps: int, warmup_steps: int, power: float, start: float = 1e-6, final: float = 0.0) -> Schedule:
    """Linear warm-up from `start`, then a polynomial from 1 to `final`."""

    def factor(step: int) -> float:
        if step < warmup_steps:
            return start + (1 - start) * step / warmup_steps
        progress = (step - warmup_steps) / max(1, num_steps - warmup_steps)
        return final + (1 - final) * (1 - progress) ** power

    return factor


def warmup_multistep(milestones: Sequence[int], warmup_steps: int, gamma: float = 0.1, start: float = 1e-3) -> Schedule:
    """Linear warm-up from `start`, then a factor of `gamma` more at each milestone."""

    def factor(step: int) -> float:
        warmup = start + (1 - start) * step / warmup_steps if step < warmup_steps else 1.0
        return warmup * gamma ** sum(step >= milestone for milestone in milestones)

    return factor
