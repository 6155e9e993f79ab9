"""Names and shapes of Flax's transformers in PyTorch's: kernels are transposed, scales are weights."""

import math
import re
from collections.abc import Mapping

from torch import Tensor

_PARTS = (  # of a path, where it is found
    (r"(^|\.)Block_(\d+)\.LayerNorm_0", r"\1blocks.\2.norm1"),
    (r"(^|\.)Block_(\d+)\.LayerNorm_1", r"\1blocks.\2.norm2"),
    (r"(^|\.)Block_(\d+)\.Attention_0\.Dense_0", r"\1blocks.\2.attn.qkv"),  # queries, keys, values, each head by head
    (r"(^|\.)Block_(\d+)\.Attention_0\.Dense_1", r"\1blocks.\2.attn.proj"),
    (r"(^|\.)Block_(\d+)\.TransformerMLP_0", r"\1blocks.\2.mlp"),
    (r"(^|\.)LayerNorm_0", r"\1norm"),
    (r"\.(kernel|scale)$", ".weight"),
)


def linear_maps(state: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """Arrays by path (`encoder/Block_0/LayerNorm_0/scale`) as PyTorch would have them.

    Args:
        names: what stands for the beginning of a path, of several the longest; others keep theirs.
    """
    renamed = {}
    for path, value in state.items():
        fitting = [start for start in names if f"{path}/".startswith(f"{start}/")]
        start = max(fitting, key=len, default="")
        name = (names.get(start, "") + path.removeprefix(start)).replace("/", ".")
        for part, ours in _PARTS:
            name = re.sub(part, ours, name)
        renamed[name] = value.T if path.endswith("/kernel") else value
    return renamed


def patch_kernel(weight: Tensor) -> Tensor:
    """A linear map of flat patches, by row, column and channel, as a convolution: (D, 3p²) -> (D, 3, p, p)."""
    side = math.isqrt(weight.shape[1] // 3)
    return weight.reshape(len(weight), side, side, 3).permute(0, 3, 1, 2)
