"""Operations of the encoders that `config/models/` names, by their sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.config import models
from pipeline.cost.parts import NORMED, POOLED, RECTIFIED, Part, blocks, conv, normed

EXPANSION = {"basic": 1, "bottleneck": 4}


class Unknown(Exception):
    """There is no saying what something costs; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """An encoder on samples of one size.

    width: D, of its features. embed: the layer that sees the sample. body: all behind it, on whole samples.
    patches, steps: L, and how many moments they are of; patch_size: in pixels. maps: channels and side of each stage's.
    """

    width: int
    embed: Part
    body: Part
    patches: int = 0
    steps: int = 1
    patch_size: int = 0
    maps: tuple[tuple[int, int], ...] = ()

    @property
    def whole(self) -> Part:
        return self.embed + self.body

    def visible(self, mask_ratio: float) -> int:
        """Tokens of a masked sample: the class token, and K patches, rounded down as the authors do."""
        return 1 + int(self.patches * (1 - mask_ratio))

    @property
    def places(self) -> int:
        """Tokens of a whole one."""
        return 1 + self.patches


@dataclass(frozen=True, kw_only=True)
class Transformer(Encoder):
    """One of patches.

    depth: of its blocks. biased_heads: of attention whose logits have a bias, which keeps them; 0 without one.
    projection: width of the space that it shares with texts, if any.
    """

    depth: int
    biased_heads: int
    projection: int

    def blocks(self, tokens: float) -> Part:
        return _blocks(tokens, self.width, self.depth, self.biased_heads)


def build(
    model: str, side: int, frames: int | None = None, tubelet: int | None = None, stages: int | None = None
) -> Encoder:
    """An encoder on images of a side in pixels, or on clips.

    Args:
        model: a name of `config/models/`.
        frames: of a clip; None for images.
        tubelet: frames of a patch, where an encoder of images is given clips; None for each frame by itself.
        stages: of a ResNet, the first so many; None for all.

    Raises:
        Unknown: for its family there is no formula.
    """
    size = models()[model]
    if "patch_size" in size:
        return _transformer(size, side, frames, tubelet or size.get("tubelet"))
    if "small_stem" in size and "net" not in size:
        return _frame_by_frame(_resnet(size, side, stages), frames)
    if "space_strides" in size and frames:
        return r2plus1d(size, side, frames)
    raise Unknown(f"there is no formula for encoders of family {size['family']}")


def _transformer(size: Mapping[str, Any], side: int, frames: int | None, tubelet: int | None) -> Encoder:
    patch, width = size["patch_size"], size["width"]
    steps = frames // tubelet if frames and tubelet else 1
    patches = steps * (side // patch) ** 2
    embed = conv(patches, 3, width, (tubelet if frames and tubelet else 1) * patch**2)
    heads = size["num_heads"] if "layer_scale" in size else 0  # a BEiT
    encoder = Transformer(
        width=width,
        embed=embed,
        body=_blocks(1 + patches, width, size["num_blocks"], heads),
        patches=patches,
        steps=steps,
        patch_size=patch,
        depth=size["num_blocks"],
        biased_heads=heads,
        projection=size.get("projection", 0),
    )
    return _frame_by_frame(encoder, None if tubelet else frames)


def _blocks(tokens: float, width: int, depth: int, biased_heads: int) -> Part:
    """Blocks; a BEiT's also keep two branches in front of LayerScale, and probabilities and bias of attention."""
    more = depth * (2 * 4 * tokens * width + 2 * 2 * biased_heads * tokens**2) if biased_heads else 0.0
    return blocks(tokens, width, depth) + Part(kept=more)


def _frame_by_frame(encoder: Encoder, frames: int | None) -> Encoder:
    if not frames:
        return encoder
    return Encoder(width=encoder.width, embed=encoder.embed.passes(frames), body=encoder.body.passes(frames))


def _resnet(size: Mapping[str, Any], side: int, stages: int | None) -> Encoder:
    small = size["small_stem"]
    return resnet(size, (side, side), stages, kernel=3 if small else 7, stride=1 if small else 2, pooled=not small)


def resnet(
    size: Mapping[str, Any],
    sides: tuple[int, int],
    stages: int | None = None,
    *,
    kernel: int,
    stride: int,
    pooled: bool,
    channels: int = 3,
) -> Encoder:
    """A ResNet on images of two sides; kernel, stride and pooled are of its stem."""
    expansion, inside = EXPANSION[size["block"]], 64  # timm's stem is always as wide
    sides = sides if stride == 1 else _halves(sides)
    places = sides[0] * sides[1]
    embed, body = conv(places, channels, inside, kernel**2), Part(kept=(NORMED + RECTIFIED) * places * inside)
    if pooled:
        sides = _halves(sides)
        body += Part(kept=POOLED * sides[0] * sides[1] * inside)
    maps = []
    for stage, (depth, width) in enumerate(zip(size["layers"][:stages], size["channels"][:stages], strict=True)):
        outside = width * expansion
        for place in range(depth):
            before, sides = sides, sides if place or not stage else _halves(sides)
            places = sides[0] * sides[1]
            if expansion == 1:
                body += normed(places, inside, width, 9) + normed(places, width, width, 9)
            else:
                body += normed(before[0] * before[1], inside, width, 1) + normed(places, width, width, 9)
                body += normed(places, width, outside, 1)
            if inside != outside or before != sides:
                body += normed(places, inside, outside, 1, NORMED)
            inside = outside
        maps.append((inside, sides[0]))
    return Encoder(width=inside, embed=embed, body=body, maps=tuple(maps))


def r2plus1d(size: Mapping[str, Any], side: int, frames: int, channels: int = 3) -> Encoder:
    """Each convolution as one of space and one of time, with as many channels between them as come out."""
    space, time, kind = size["space_strides"], size["time_strides"], size["block"]
    inside, expansion = size["channels"][0], EXPANSION[kind]
    side, moments = -(-side // space[0]), -(-frames // time[0])
    embed = conv(side**2 * frames, channels, inside, size["stem_kernel"] ** 2)
    body = Part(kept=(NORMED + RECTIFIED) * side**2 * frames * inside) + normed(side**2 * moments, inside, inside, 3)
    if size["pooled_stem"]:
        side = _half(side)
        body += Part(kept=POOLED * side**2 * moments * inside)
    for stage, (depth, width) in enumerate(zip(size["layers"], size["channels"], strict=True), 1):
        outside = width * expansion
        for place in range(depth):
            before, side = side, side if place else -(-side // space[stage])
            earlier, moments = moments, moments if place else -(-moments // time[stage])
            entering = inside
            if expansion > 1:
                body += normed(before**2 * earlier, inside, width, 1)
                entering = width
            body += normed(side**2 * earlier, entering, width, 9) + normed(side**2 * moments, width, width, 3)
            if expansion > 1:
                body += normed(side**2 * moments, width, outside, 1)
            else:
                body += normed(side**2 * moments, width, width, 9) + normed(side**2 * moments, width, width, 3)
            if (inside, before, earlier) != (outside, side, moments):
                body += normed(side**2 * moments, inside, outside, 1, NORMED)
            inside = outside
    return Encoder(width=inside, embed=embed, body=body)


def _half(side: int) -> int:
    return -(-side // 2)


def _halves(sides: tuple[int, int]) -> tuple[int, int]:
    return _half(sides[0]), _half(sides[1])
