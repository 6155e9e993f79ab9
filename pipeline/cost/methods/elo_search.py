"""ELo's search: steps of a proxy, which are ELo's, by each candidate and once more by the best."""

from __future__ import annotations

from typing import Any

from pipeline.cost.methods.elo import step

__all__ = ["step", "trainings"]


def trainings(settings: dict[str, Any]) -> int:
    """How many times the proxy is trained."""
    return int(settings["options"]["num_rounds"] * settings["options"]["population"]) + 1
