"""Learning-rate schedules: functions from the step to a factor of each group's own rate.

They are set before every optimiser step, so the warm-up's first step has a rate of 0, as in the papers' code.
"""

import math
from collections.abc import Callable, Sequence

Schedule = Callable[[int], float]


def warmup_cosine(num_steps: int, warmup_steps: int, final: float = 0.0) -> Schedule:
    """Linear warm-up from 0, then half a cosine from 1 to `final` (a fraction of the peak rate)."""

    def factor(step: int) -> float:
        if step < warmup_steps:
            return step / warmup_steps
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
