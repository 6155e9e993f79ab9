"""A recipe's `augment` section as a transform."""

from collections.abc import Mapping
from typing import Any

from pipeline.config import ConfigError
from pipeline.data.jitter import JitteredCrop
from pipeline.data.policies import AutoAugmented
from pipeline.data.transforms import RandomCrop, Transform

KINDS: dict[str, type] = {"crop": RandomCrop, "jitter": JitteredCrop, "auto": AutoAugmented}


def build_transform(section: Mapping[str, Any]) -> Transform:
    """The training transform that a recipe describes.

    Args:
        section: `kind`, `crop` for MAE's random crop, `jitter` for MoCo's colours too or `auto` for timm's, and the
            arguments of its transform.

    Raises:
        ConfigError: for another kind, or arguments that the transform does not take.
    """
    arguments = {key: value for key, value in section.items() if key != "kind"}
    kind = section.get("kind")
    if kind not in KINDS:
        raise ConfigError(f"augment.kind is {kind!r}; available: {sorted(KINDS)}")
    try:
        return KINDS[kind](**arguments)
    except TypeError as error:
        raise ConfigError(f"augment ({kind}) is {arguments}: {error}") from None
