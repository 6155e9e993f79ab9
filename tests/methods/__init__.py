from copy import deepcopy

import yaml

from pipeline.config import RECIPES


def recipe(name: str, scale: str = "demo") -> dict:
    """One section of a method's recipe."""
    raw = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())
    return {"method": raw.get("method") or name, **deepcopy(raw[scale])}
