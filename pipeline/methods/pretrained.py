"""Pretrained: an encoder whose weights others trained, read from a timm state dict; the run names the file.

CLIP's own pixel statistics are folded into its patch kernel, see `pipeline.nn.families.clip`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from pipeline.methods.base import Context, Method
from pipeline.nn.families.clip import fold_statistics


@dataclass(frozen=True, kw_only=True)
class PretrainedOptions:
    """What is read has no numbers of its own."""


class Pretrained(Method):
    Options = PretrainedOptions
    trains = False

    def __init__(self, encoder: nn.Module, options: PretrainedOptions, context: Context) -> None:
        super().__init__(encoder, options, context)

    @classmethod
    def translate(cls, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """timm's own names; of CLIP, which is told by the norm in front of its blocks, the projection is kept."""
        if "norm_pre.weight" not in state:
            return super().translate(state)
        kernel, bias = fold_statistics(state["patch_embed.proj.weight"], state.get("patch_embed.proj.bias"))
        folded = {**state, "patch_embed.proj.weight": kernel, "patch_embed.proj.bias": bias}
        return {f"encoder.{name}": value for name, value in folded.items()}
