"""Pictures of what a run of M3AE fills in: image and caption side by side, each word marked visible, right or wrong."""

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.device import get_device
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from pipeline.data.draws import MASK, uniform
from pipeline.data.kinds.image_text import Pairs
from pipeline.data.transforms import denormalise
from pipeline.methods.base import Step
from pipeline.methods.m3ae import M3AE

TILE, GAP, WIDTH = 72, 6, 900  # pixels: of an image, between things, of the picture
LETTER, LINE = 14, 20  # pixels of letters, and from line to line
VISIBLE, RIGHT, WRONG = (130, 130, 130), (0, 120, 40), (190, 20, 20)
Words = list[tuple[str, tuple[int, int, int]]]


@torch.no_grad()
def draw_filled(method: M3AE, pairs: Pairs, shown: Sequence[int], seed: int) -> Image.Image:
    """A row for each sample, masked as in training: image, what was visible, reconstruction; the words of its caption.

    Visible words are grey. Hidden ones are green where they are told right; else red, with the true one in brackets.
    """
    batch = pairs.__getitems__([(0, index) for index in shown])
    batch = {name: value.to(get_device()) for name, value in batch.items()}
    num = method.encoder.patch_embed.num_patches + batch["ids"].shape[1]
    noise = uniform(seed, 0, batch["index"], num, MASK)
    streams = method.hide(batch["images"], batch["ids"], batch["padding"], noise)
    filled = method.fill(streams)
    step = Step(torch.zeros(()), filled["image"], mask=streams["image"].masking.mask)
    rows = method.pictures(step, batch["images"]).values()
    guesses, hidden = filled["text"].argmax(dim=2), streams["text"].masking.mask
    canvas = Image.new("RGB", (WIDTH, len(shown) * (TILE + GAP) + GAP), "white")
    for place in range(len(shown)):
        top = GAP + place * (TILE + GAP)
        for column, row in enumerate(rows):
            canvas.paste(_tile(row[place]), (GAP + column * (TILE + GAP), top))
        there = ~batch["padding"][place]
        words = _words(pairs, *(part[place][there] for part in (batch["ids"], guesses, hidden)))
        _write(canvas, words, 2 * GAP + len(rows) * (TILE + GAP), top)
    return canvas


def _words(pairs: Pairs, ids: Tensor, guesses: Tensor, hidden: Tensor) -> Words:
    """What is written for each token of a caption, and in which colour; (T,) each."""
    told = zip(pairs.words.words(ids.tolist()), pairs.words.words(guesses.tolist()), hidden.tolist(), strict=True)
    return [(true, VISIBLE) if not masked else (true, RIGHT) if guess == true else (f"{guess} [{true}]", WRONG)
            for true, guess, masked in told]  # fmt: skip


def _tile(image: Tensor) -> Image.Image:
    """One normalised image, (3, H, W), enlarged without smoothing or made smaller."""
    pixels = (denormalise(image[None].cpu().float())[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    return Image.fromarray(np.ascontiguousarray(pixels)).resize((TILE, TILE), Image.Resampling.NEAREST)


def _write(canvas: Image.Image, words: Words, left: int, top: int) -> None:
    """Words from a place on, in as many lines as there is room for; what would be cut off ends in dots."""
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(LETTER)
    x, y = left, top
    for text, colour in words:
        width = round(draw.textlength(text, font))
        if x > left and x + width > WIDTH - GAP:
            x, y = left, y + LINE
        if y + LINE > top + TILE + GAP:
            draw.text((WIDTH - 2 * GAP, y - LINE), "…", VISIBLE, font)
            return
        draw.text((x, y), text, colour, font)
        x += width + LINE // 3
