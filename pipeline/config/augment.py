"""The section `augment`, by its `kind`: how a training sample is cut and changed before an encoder sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from pipeline.config.errors import ConfigError, nearest
from pipeline.config.types import Amount, Count, Flag, Fraction, Natural, Positive, Text, ordered

Area = Annotated[
    list[Annotated[float, Field(strict=True, gt=0, le=1)]],
    Field(min_length=2, max_length=2, title="smallest and largest share of the area, such as [0.2, 1.0]"),
    AfterValidator(ordered),
]
Shape = Annotated[
    list[Positive],
    Field(min_length=2, max_length=2, title="smallest and largest width over height, such as [0.75, 1.33]"),
    AfterValidator(ordered),
]
Hue = Annotated[float, Field(strict=True, ge=0, le=0.5, title="a share of the colour circle, from 0 to 0.5")]


class Size(BaseModel):
    """Of what trains nothing: what its encoder is built for, pixels a side and, of clips, frames."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    image_size: Count
    num_frames: Count | None = None


class Cut(BaseModel):
    """What all crops have: pixels a side that come out, share of the area, width over height, and mirroring."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Text
    image_size: Count
    scale: Area
    ratio: Shape
    flip: Flag


class Crop(Cut):
    """MAE's crop; with `single_draw` that of its linear probe. `pipeline.data.transforms.RandomCrop`."""

    single_draw: Flag = False
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"


class Jitter(Cut):
    """MoCo's colours after a crop: strengths, and the shares of images. `pipeline.data.jitter.JitteredCrop`."""

    brightness: Amount
    contrast: Amount
    saturation: Amount
    hue: Hue
    jitter_share: Fraction
    grey_share: Fraction
    blur_share: Fraction
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"


class Auto(Cut):
    """timm's policy and random erasing after a crop. `pipeline.data.transforms.AutoAugmented`."""

    policy: Text | None
    erase_ratio: Fraction


class Clip(Cut):
    """A cut through frames: how many, every how many-th at how many a second (0: the middles of equal segments), and
    the short side to which they are decoded; where said, a policy and random erasing, drawn once for all frames.
    `pipeline.data.kinds.video.TrainClips`."""

    num_frames: Count
    sampling_rate: Natural
    target_fps: Count
    decode_size: Count
    policy: Text | None = None
    erase_ratio: Fraction = 0.0


KINDS: dict[str, type[BaseModel]] = {"crop": Crop, "jitter": Jitter, "auto": Auto, "clip": Clip}


def augmentation(section: Mapping[str, Any], where: str) -> type[BaseModel]:
    """The type of a section, by its `kind`, which stands at `where`; without one it says a size only.

    Raises:
        ConfigError: there is no such kind.
    """
    if "kind" not in section:
        return Size
    kind = section["kind"]
    if not isinstance(kind, str) or kind not in KINDS:
        raise ConfigError(f"{where} is {kind!r}; available: {list(KINDS)}{nearest(kind, KINDS)}")
    return KINDS[kind]
