"""Operations, parameters and memory of the parts that networks are made of, for one sample.

A product of an (n, a) and an (a, b) matrix is 2 n a b operations, a multiplication and an addition each; norms,
activations and biases are not counted, as PyTorch's counter does not.
"""

from __future__ import annotations

from dataclasses import dataclass

# Bytes that a Transformer's block keeps for each of its channels and tokens: both inputs of its norms in float32; in
# bfloat16 both their outputs, queries, keys and values, what attention gives, and what the MLP's hidden layer takes and
# gives, four times as wide.
KEPT = 2 * 4 + 2 * (2 + 3 + 1 + 2 * 4)
KEPT_FROZEN = KEPT - 2 * (2 + 4)  # without the inputs of linear maps, which only their weights' gradient needs
KEPT_AGAIN = 4  # where it is computed again: its input
# Bytes kept of each value that a convolution gives: in bfloat16 what its norm takes, and what the rectifier then gives.
NORMED, RECTIFIED = 2, 2
POOLED = 2 + 8  # of each that max-pooling gives: itself, and where it was


@dataclass(frozen=True)
class Part:
    """A part of a network.

    linear: operations with weights, forward. attention: of activations with each other. parameters: how many.
    kept: bytes of a Transformer's blocks or of normed convolutions for the backward pass; of other parts they are not
        counted.
    """

    linear: float = 0.0
    attention: float = 0.0
    parameters: float = 0.0
    kept: float = 0.0

    @property
    def forward(self) -> float:
        return self.linear + self.attention

    def __add__(self, other: Part) -> Part:
        return Part(
            self.linear + other.linear,
            self.attention + other.attention,
            self.parameters + other.parameters,
            self.kept + other.kept,
        )

    def __mul__(self, times: float) -> Part:
        """As many parts, each with weights of its own."""
        return Part(self.linear * times, self.attention * times, self.parameters * times, self.kept * times)

    def passes(self, times: float) -> Part:
        """The same weights, used more than once."""
        return Part(self.linear * times, self.attention * times, self.parameters, self.kept * times)


NOTHING = Part()


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one sample of a training step is made of.

    trained: forward, and twice as much backward: for the input and for the weights.
    embedded: the layer that sees the sample, whose input needs no gradient: backward once.
    frozen: forward alone.
    passed: frozen weights that a gradient goes through: backward once, and twice in attention.
    """

    trained: Part = NOTHING
    embedded: Part = NOTHING
    frozen: Part = NOTHING
    passed: Part = NOTHING

    @property
    def flops(self) -> float:
        backward = 2 * self.trained.forward + self.embedded.forward + self.passed.linear + 2 * self.passed.attention
        return sum(part.forward for part in (self.trained, self.embedded, self.frozen, self.passed)) + backward

    @property
    def parameters(self) -> float:
        """Those that are trained."""
        return self.trained.parameters + self.embedded.parameters

    def kept(self, again: float = 0.0) -> float:
        """Bytes that are kept for the backward pass, of blocks a share of which is computed again."""
        whole = self.trained.kept + self.passed.kept * KEPT_FROZEN / KEPT
        return whole * (1 - again * (1 - KEPT_AGAIN / KEPT))


def linear(places: float, inside: float, outside: float) -> Part:
    """A linear map of each place."""
    return Part(2 * places * inside * outside, 0.0, inside * outside + outside)


def conv(places: float, inside: float, outside: float, kernel: float) -> Part:
    """A convolution without bias; places: of its output. kernel: values of one of its filters for each channel."""
    return Part(2 * places * inside * outside * kernel, 0.0, inside * outside * kernel)


def normed(places: float, inside: float, outside: float, kernel: float, kept: int = NORMED + RECTIFIED) -> Part:
    """A convolution, its BatchNorm and a rectifier."""
    return conv(places, inside, outside, kernel) + Part(kept=kept * places * outside)


def blocks(tokens: float, width: float, depth: int) -> Part:
    """Transformer blocks whose MLP is four times as wide, attention unfused."""
    one = Part(24 * tokens * width**2, 4 * tokens**2 * width, 12 * width**2 + 13 * width, KEPT * tokens * width)
    return one * depth


def decoder(visible: float, places: float, width: float, options: dict, out: float) -> Part:  # type: ignore[type-arg]
    """MAE's decoder: from the visible tokens of the encoder's width to `out` values of each place."""
    inner = options["decoder_width"]
    return linear(visible, width, inner) + blocks(places, inner, options["decoder_depth"]) + linear(places, inner, out)
