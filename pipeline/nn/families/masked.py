"""Networks that tasks share, each task through a binary mask of its own over every weight.

Yadav and Bansal, "Exclusive Supermask Subnetwork Training for Continual Learning", Findings of ACL 2023,
arXiv:2210.10209, released code: every weight layer is a convolution without bias, 1 × 1 where it would be fully
connected; norms have no weights, and each task has its own statistics. The output layer is masked like any other.
B samples of S pixels a side, or of L words in vectors of W; T tasks, H heads of C outputs each, D features.

Departure: texts come in fixed vectors of single words, drawn or from a file, which are among the code's alternatives to
a frozen BERT.
"""

import itertools
import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MaskedConv2d(nn.Conv2d):
    """A convolution whose weights are used through the mask of the current task.

    Attributes:
        masks: (T, *weight.shape), True where a task uses a weight.
        mask: used in place of the current task's while it is being learned.
        trained: (*weight.shape), True where a gradient reaches the weights; None for everywhere.
    """

    def __init__(self, inputs: int, outputs: int, size: int | tuple[int, int] = 1, stride: int = 1) -> None:
        sides = (size, size) if isinstance(size, int) else size
        super().__init__(inputs, outputs, sides, stride, padding=(sides[0] // 2, sides[1] // 2), bias=False)
        self.task = 0
        self.mask: Tensor | None = None
        self.trained: Tensor | None = None
        self.register_buffer("masks", torch.ones(1, *self.weight.shape, dtype=torch.bool))

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Signed constants: the signs of PyTorch's weights, and He's deviation for all of them."""
        super().reset_parameters()
        self.weight.copy_(self.weight.sign() * math.sqrt(2 / self.weight[0].numel()))

    def forward(self, maps: Tensor) -> Tensor:
        weight = self.weight
        if self.trained is not None:
            weight = torch.where(self.trained, weight, weight.detach())
        mask = self.masks[self.task] if self.mask is None else self.mask
        return F.conv2d(maps, weight * mask, None, self.stride, self.padding)


class TaskNorms(nn.ModuleList):
    """Batch norm without weights, with the current task's own statistics."""

    def __init__(self, width: int) -> None:
        super().__init__([nn.BatchNorm2d(width, affine=False)])
        self.width, self.task = width, 0

    def forward(self, maps: Tensor) -> Tensor:
        return self[self.task](maps)


class LeNet(nn.Module):
    """LeNet-300-100 on brightness: (B, 3, S, S) -> (B, D), before the last ReLU."""

    def __init__(self, size: Mapping[str, Any], image_size: tuple[int, int]) -> None:
        super().__init__()
        widths = (image_size[0] * image_size[1], *size["hidden"])
        self.layers = nn.ModuleList([MaskedConv2d(*pair) for pair in itertools.pairwise(widths)])
        self.embed_dim = widths[-1]

    def forward(self, samples: Tensor) -> Tensor:
        tokens = samples.mean(dim=1).flatten(1)[..., None, None]
        for i, layer in enumerate(self.layers):
            tokens = layer(tokens if i == 0 else F.relu(tokens))
        return tokens.flatten(1)


class Block(nn.Module):
    """A residual block of two 3 × 3 convolutions, or of 1 × 1, 3 × 3 and 1 × 1 where it is a bottleneck."""

    def __init__(self, inputs: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        outputs = 4 * width if bottleneck else width
        if bottleneck:
            convs = [MaskedConv2d(inputs, width), MaskedConv2d(width, width, 3, stride), MaskedConv2d(width, outputs)]
        else:
            convs = [MaskedConv2d(inputs, width, 3, stride), MaskedConv2d(width, width, 3)]
        self.convs = nn.ModuleList(convs)
        self.norms = nn.ModuleList([TaskNorms(conv.out_channels) for conv in convs])
        plain = stride == 1 and inputs == outputs
        self.shortcut = (
            nn.Identity() if plain else nn.Sequential(MaskedConv2d(inputs, outputs, 1, stride), TaskNorms(outputs))
        )

    def forward(self, maps: Tensor) -> Tensor:
        shortcut = self.shortcut(maps)
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            maps = norm(conv(maps if i == 0 else F.relu(maps)))
        return F.relu(maps + shortcut)


class ResNet(nn.Module):
    """He et al. 2016, arXiv:1512.03385; a small stem is one 3 × 3 convolution. (B, 3, S, S) -> (B, D)."""

    def __init__(self, size: Mapping[str, Any], image_size: tuple[int, int]) -> None:
        super().__init__()
        bottleneck, channels, small = size["block"] == "bottleneck", size["channels"], size["small_stem"]
        stem = (
            MaskedConv2d(3, channels[0], 3) if small else MaskedConv2d(3, channels[0], 7, 2),
            TaskNorms(channels[0]),
        )
        self.stem = nn.Sequential(*stem, nn.ReLU(), nn.Identity() if small else nn.MaxPool2d(3, 2, 1))
        blocks, inputs = [], channels[0]
        for stage, (count, width) in enumerate(zip(size["layers"], channels, strict=True)):
            for i in range(count):
                blocks.append(Block(inputs, width, 2 if stage > 0 and i == 0 else 1, bottleneck))
                inputs = 4 * width if bottleneck else width
        self.blocks, self.embed_dim = nn.Sequential(*blocks), inputs

    def forward(self, samples: Tensor) -> Tensor:
        return self.blocks(self.stem(samples)).mean(dim=(2, 3))


class TextCNN(nn.Module):
    """The largest answer of each filter anywhere in a text (Kim 2014, arXiv:1408.5882): (B, L, W) -> (B, D)."""

    def __init__(self, size: Mapping[str, Any], image_size: tuple[int, int]) -> None:
        super().__init__()
        self.word_width, kernels = size["word_width"], size["kernel_sizes"]
        self.filters = nn.ModuleList(MaskedConv2d(self.word_width, size["width"], (kernel, 1)) for kernel in kernels)
        self.embed_dim = size["width"] * len(kernels)

    def forward(self, samples: Tensor) -> Tensor:
        words = samples.transpose(1, 2)[..., None]
        return torch.cat([F.relu(filters(words)).amax(dim=(2, 3)) for filters in self.filters], dim=1)


NETS: dict[str, type[nn.Module]] = {"lenet": LeNet, "resnet": ResNet, "text_cnn": TextCNN}


class MaskedNetwork(nn.Module):
    """A network with masks and norms for T tasks, and H heads of C outputs; at first one of each, without a gap.

    Args:
        trunk: from samples to (B, D).
    """

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk, self.embed_dim = trunk, trunk.embed_dim
        self.head = MaskedConv2d(self.embed_dim, 2)
        self.register_buffer("num_heads", torch.tensor(1))

    @property
    def num_tasks(self) -> int:
        return len(self.head.masks)

    @property
    def layers(self) -> list[MaskedConv2d]:
        """All that has weights, in the order of computing."""
        return [module for module in self.modules() if isinstance(module, MaskedConv2d)]

    def grow(self, num_tasks: int, num_heads: int, num_outputs: int) -> None:
        """Make it one for T tasks with H heads of C outputs; masks are without a gap, the output layer is new."""
        self.head = MaskedConv2d(self.embed_dim, num_heads * num_outputs)
        self.num_heads.fill_(num_heads)
        for layer in self.layers:
            layer.masks = torch.ones(num_tasks, *layer.weight.shape, dtype=torch.bool)
        for norms in [module for module in self.modules() if isinstance(module, TaskNorms)]:
            norms.extend(nn.BatchNorm2d(norms.width, affine=False) for _ in range(num_tasks - len(norms)))
        self.switch(0)

    def switch(self, task: int) -> None:
        """Compute with a task's masks and norms from now on."""
        for module in self.modules():
            if isinstance(module, MaskedConv2d | TaskNorms):
                module.task = task

    def forward_features(self, samples: Tensor, task: int | None = None) -> Tensor:
        """(B, ...) samples -> (B, D), what the output layer's ReLU is given; as a task, or as the one switched to."""
        if task is not None:
            self.switch(min(task, self.num_tasks - 1))
        return self.trunk(samples)

    def forward(self, samples: Tensor) -> Tensor:
        """(B, ...) samples -> (B, H, C) logits of all heads."""
        return self._outputs(self.forward_features(samples))

    def answer(self, samples: Tensor, task: int) -> Tensor:
        """(B, ...) samples -> (B, C) logits of a task, by its own head where it has one."""
        return self._outputs(self.forward_features(samples, task))[:, task % int(self.num_heads)]

    def _outputs(self, features: Tensor) -> Tensor:
        outputs = self.head(F.relu(features)[..., None, None])
        return outputs.view(len(outputs), int(self.num_heads), -1)


def build(size: Mapping[str, Any], image_size: tuple[int, int]) -> MaskedNetwork:
    """A network of the given sizes; LeNet takes images of `image_size` only, ResNets of any, a text network none."""
    if size["net"] not in NETS:
        raise ValueError(f"net is {size['net']!r}; available: {sorted(NETS)}")
    return MaskedNetwork(NETS[size["net"]](size, image_size))


def fit_positions(state: dict[str, Tensor], encoder: MaskedNetwork) -> dict[str, Tensor]:
    """There are no positions; the encoder becomes one for as many tasks and outputs as were saved."""
    num_tasks, num_outputs = state["head.masks"].shape[:2]
    num_heads = int(state["num_heads"])
    if num_heads < 1 or num_outputs % num_heads:
        raise ValueError(f"it has {num_heads} heads for {num_outputs} outputs")
    encoder.grow(num_tasks, num_heads, num_outputs // num_heads)
    return state
