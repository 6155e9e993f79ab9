"""How long a training lasts."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.config.errors import ConfigError

UNITS = ("steps", "epochs")
FORM = "a number and a unit, such as '300 steps' or '800 epochs'"


@dataclass(frozen=True)
class Duration:
    """A length of training, written `800 epochs` or `300 steps`, which are whole; steps are all training ever sees."""

    value: float
    unit: str

    @classmethod
    def parse(cls, text: str, key: str = "duration") -> Duration:
        number, _, unit = str(text).partition(" ")
        unit = unit if unit.endswith("s") else unit + "s"
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if unit not in UNITS or not 0 <= value < math.inf or (unit == "steps" and value % 1):
            raise ConfigError(f"{key} is {text!r}; expected {FORM}")
        return cls(value, unit)

    def steps(self, num_samples: int, batch_size: int) -> int:
        """Optimiser steps of this duration.

        Args:
            num_samples: samples in the training split.
            batch_size: samples of one optimiser step over all devices; the incomplete last batch is dropped.
        """
        if self.unit == "steps":
            return round(self.value)
        return round(self.value * max(1, num_samples // batch_size))
