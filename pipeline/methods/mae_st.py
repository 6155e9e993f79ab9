"""MAE-ST: hide nine tenths of a clip's tubelets, encode the rest, paint a frame of each hidden one.

Feichtenhofer et al., "Masked Autoencoders As Spatiotemporal Learners", NeurIPS 2022, arXiv:2205.09113.
B clips of T frames, L tubelets, K of them visible, D encoder width, P pixel values painted per tubelet.

Departures: the authors' two code bases differ from each other, and options choose between them: whether the decoder
has a class token of its own (mae_st) or carries the encoder's on (PySlowFast), which frame of a tubelet is painted,
the decoder's heads and whether its positions are separable. Tubes and frames are hidden whole, their number rounded,
where PySlowFast cuts one in the middle. Images come normalised by ImageNet's statistics, as everywhere here; targets
are brought to the authors' (mean 0.45, deviation 0.225), and released weights have the difference folded in.
Detection of actions on AVA is not there: mmdet has no detector of actions in clips.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from pipeline.masking.spacetime import num_draws, spacetime_mask
from pipeline.masking.uniform import Masking, keep, mean_over
from pipeline.methods.base import Context, Draw, Method, Step
from pipeline.nn.families.vit import embed_patches, encode
from pipeline.nn.families.vit_st import INITIALISATIONS, STD, initialise, joined
from pipeline.nn.patches import patchify, unpatchify

FRAMES = ("linspace", "every", "all")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
MEAN, DEVIATION = 0.45, 0.225  # of the authors' pixels, all channels alike


@dataclass(frozen=True, kw_only=True)
class MAESTOptions:
    """The numbers of MAE-ST itself; `config/recipes/mae_st.yaml` gives them with their sources.

    mask_ratio: share of the tubelets that is hidden.
    mask_kind: which ones: `agnostic`, any; `space`, tubes; `time`, whole steps; `block`, cuboids.
    norm_pixels: standardise each target by its own mean and variance.
    target_frames: what of a tubelet is painted: `linspace`, one frame as mae_st chooses it; `every`, its first one as
        PySlowFast does; `all` of them.
    carry_class_token: the decoder goes on with the encoder's class token instead of one of its own.
    separable_decoder: positions of the decoder are sums of space and time, as the encoder's.
    decoder_width, decoder_depth, decoder_heads: sizes of the decoder.
    decoder_initialisation: `mae_st` or `pyslowfast`.
    """

    mask_ratio: float
    mask_kind: str
    norm_pixels: bool
    target_frames: str
    carry_class_token: bool
    separable_decoder: bool
    decoder_width: int
    decoder_depth: int
    decoder_heads: int
    decoder_initialisation: str


class MAEST(Method):
    Options = MAESTOptions

    def __init__(self, encoder: nn.Module, options: MAESTOptions, context: Context) -> None:
        super().__init__(encoder, options, context)
        tubelets = encoder.patch_embed
        self.grid = (tubelets.num_steps, *tubelets.grid_size)
        # Buffers, since what is made of Python's numbers in a step is copied to the device in each of them.
        frames = target_frames(options.target_frames, encoder.num_frames, tubelets.tubelet)
        self.register_buffer("frames", torch.tensor(frames), persistent=False)
        for name, value in zip(("factor", "offset"), _statistics(), strict=True):
            self.register_buffer(name, value, persistent=False)
        spacetime_mask(torch.rand(1, num_draws(options.mask_kind, self.grid)), options.mask_kind, self.grid,
                       options.mask_ratio)  # fmt: skip  # refuses an impossible ratio early
        painted = len(frames) // tubelets.num_steps
        self.decoder = SpaceTimeDecoder(encoder, options, out=painted * 3 * tubelets.patch_size[0] ** 2)

    def inputs(self, batch: Mapping[str, Tensor], draw: Draw) -> dict[str, Tensor]:
        return {"video": batch["video"], "noise": draw(num_draws(self.options.mask_kind, self.grid))}

    def forward(self, video: Tensor, noise: Tensor) -> Step:
        """One training step, seen through one mask.

        Args:
            video: (B, 3, T, H, W), normalised.
            noise: (B, draws) uniform, those of `spacetime_mask`.

        Returns:
            loss (), prediction (B, L, P), target (B, L, P), mask (B, L), True where hidden.
        """
        masking = spacetime_mask(noise, self.options.mask_kind, self.grid, self.options.mask_ratio)
        visible = keep(embed_patches(self.encoder, video), masking.visible)  # (B, K, D)
        latent = encode(self.encoder, visible)  # (B, 1 + K, D)
        prediction = self.decoder(latent, masking)[:, 1:]  # (B, L, P)
        target = self.target(video)
        # In float32 under autocast too: the difference of two nearly equal numbers is what matters.
        error = F.mse_loss(prediction.float(), target, reduction="none").mean(dim=2)  # (B, L)
        return Step(mean_over(error, masking.mask), prediction, target, masking.mask)

    def target(self, video: Tensor) -> Tensor:
        """What the hidden tubelets are to become: (B, 3, T, H, W) -> (B, L, P), by frame, row, column and channel."""
        pixels = self._pixels(video.float() * self.factor + self.offset)
        if not self.options.norm_pixels:
            return pixels
        variance, mean = torch.var_mean(pixels, dim=2, keepdim=True)  # unbiased: divided by P - 1
        return (pixels - mean) / (variance + 1e-6).sqrt()

    def _pixels(self, video: Tensor) -> Tensor:
        """The painted frames of each tubelet: (B, 3, T, H, W) -> (B, L, P)."""
        frames = video[:, :, self.frames].transpose(1, 2)  # (B, t · u, 3, H, W)
        cut = patchify(frames.flatten(0, 1), self.encoder.patch_embed.patch_size[0])
        cut = cut.unflatten(0, (len(video), self.grid[0], -1))  # (B, t, u, S, P / u)
        return cut.transpose(2, 3).flatten(3).flatten(1, 2)

    def _frames(self, pixels: Tensor) -> Tensor:
        """The inverse of `_pixels`: (B, L, P) -> (B, 3, t · u, H, W)."""
        steps = self.grid[0]
        cut = pixels.unflatten(2, (len(self.frames) // steps, -1)).unflatten(1, (steps, -1)).transpose(2, 3)
        frames = unpatchify(cut.flatten(0, 2), self.grid[1:])
        return frames.unflatten(0, (len(pixels), -1)).transpose(1, 2)

    @torch.no_grad()
    def pictures(self, step: Step, images: Tensor) -> dict[str, Tensor]:
        """Rows of the painted frames: input, what was visible, and the reconstruction with the visible pasted in.

        Args:
            images: (B, 3, T, H, W), the clips.

        Returns:
            (B, 3, frames, H, W) each.
        """
        pixels = self._pixels(images.float() * self.factor + self.offset)
        painted, hidden = step.prediction.float(), step.mask[..., None]
        if self.options.norm_pixels:  # bring each patch back to its own mean and contrast
            variance, mean = torch.var_mean(pixels, dim=2, keepdim=True)
            painted = painted * (variance + 1e-6).sqrt() + mean
        shown = images[:, :, self.frames].float()
        everywhere = self._frames(hidden.expand_as(pixels).float()) > 0
        return {
            "input": shown,
            "masked": shown.masked_fill(everywhere, 0.0),
            "reconstruction": torch.where(everywhere, (self._frames(painted) - self.offset) / self.factor, shown),
        }

    @classmethod
    def translate(cls, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Released names of both code bases in ours.

        mae_st: the decoder's parts are `decoder_*`, queries, keys and values apart (`attn.q`, `attn.k`, `attn.v`).
        PySlowFast, and the files that both repositories link to: the decoder's blocks are `pred_head.transforms.0.i`,
        the last of which is its norm, its output `pred_head.projections.0`, its positions `decoder_pos_embed`, or
        `dec_pos_embed_*` where they are separable; queries, keys and values apart or fused.
        """
        block = re.compile(r"pred_head\.transforms\.0\.(\d+)\.(.+)")
        places = [int(match[1]) for name in state if (match := block.fullmatch(name))]
        renamed: dict[str, Tensor] = {}
        for name, value in state.items():
            if match := block.fullmatch(name):
                last = int(match[1]) == max(places)
                name = f"decoder.norm.{match[2]}" if last else f"decoder.blocks.{match[1]}.{match[2]}"
            elif name.startswith("pred_head.projections.0."):
                name = name.replace("pred_head.projections.0", "decoder.pred")
            elif name == "mask_token" or name.startswith(("decoder_", "dec_")):
                name = "decoder." + name.removeprefix("decoder_").removeprefix("dec_")
            else:
                name = f"encoder.{name}"
            renamed[name] = value
        renamed = _fused(renamed)
        kernel, bias = (f"encoder.patch_embed.proj.{part}" for part in ("weight", "bias"))
        if {kernel, bias} <= renamed.keys():
            renamed[kernel], renamed[bias] = _folded(renamed[kernel], renamed[bias])
        return renamed


class SpaceTimeDecoder(nn.Module):
    """Fill the gaps with mask tokens, attend over everything, map each tubelet to its values.

    Args:
        encoder: gives D, steps, rows and columns.
        options: of the method.
        out: P.
    """

    def __init__(self, encoder: nn.Module, options: MAESTOptions, *, out: int) -> None:
        super().__init__()
        if options.decoder_initialisation not in INITIALISATIONS:
            raise ValueError(
                f"decoder_initialisation is {options.decoder_initialisation!r}; available: {list(INITIALISATIONS)}"
            )
        width, tubelets = options.decoder_width, encoder.patch_embed
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.embed = nn.Linear(encoder.embed_dim, width)
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        self.cls_token = None if options.carry_class_token else nn.Parameter(torch.empty(1, 1, width))
        self.separable = options.separable_decoder
        sizes = {"pos_embed": 1 + tubelets.num_patches}
        if self.separable:
            patches = tubelets.num_patches // tubelets.num_steps
            sizes = {"pos_embed_class": 1, "pos_embed_spatial": patches, "pos_embed_temporal": tubelets.num_steps}
        for name, length in sizes.items():
            self.register_parameter(name, nn.Parameter(torch.empty(1, length, width)))
        self.blocks = nn.Sequential(
            *[Block(width, options.decoder_heads, qkv_bias=True, norm_layer=norm) for _ in range(options.decoder_depth)]
        )
        self.norm = norm(width)
        self.pred = nn.Linear(width, out)
        initialise(self, options.decoder_initialisation, bias=0.0)
        for name, parameter in self.named_parameters(recurse=False):
            std = encoder.position_std if name.startswith("pos_embed") else STD
            (nn.init.normal_ if name == "mask_token" else nn.init.trunc_normal_)(parameter, std=std)

    def forward(self, latent: Tensor, masking: Masking) -> Tensor:
        """Predict every tubelet from the visible ones: (B, 1 + K, D) -> (B, 1 + L, P), class token first."""
        tokens = self.embed(latent)
        class_token, visible = tokens[:, :1], tokens[:, 1:]
        if self.cls_token is not None:
            class_token = self.cls_token.to(tokens.dtype).expand(len(tokens), -1, -1)
        num_hidden = masking.mask.shape[1] - visible.shape[1]
        gaps = self.mask_token.to(tokens.dtype).expand(len(tokens), num_hidden, -1)
        patches = keep(torch.cat([visible, gaps], dim=1), masking.restore)
        positions = self.pos_embed if not self.separable else joined(
            self.pos_embed_class, self.pos_embed_spatial, self.pos_embed_temporal
        )  # fmt: skip
        return self.pred(self.norm(self.blocks(torch.cat([class_token, patches], dim=1) + positions)))


def target_frames(rule: str, num_frames: int, tubelet: int) -> list[int]:
    """Frames that are painted, an equal number of each tubelet.

    Raises:
        ValueError: for a rule that there is not.
    """
    if rule not in FRAMES:
        raise ValueError(f"target_frames is {rule!r}; available: {list(FRAMES)}")
    if rule == "linspace":  # the last one is the last frame of its tubelet, the others are the first
        return torch.linspace(0, num_frames - 1, num_frames // tubelet).long().tolist()
    return list(range(0, num_frames, tubelet if rule == "every" else 1))


def _statistics() -> tuple[Tensor, Tensor]:
    """Factor and offset, (3, 1, 1, 1) each, from pixels normalised as everywhere here to the authors'."""
    mean, deviation = (torch.tensor(values).view(3, 1, 1, 1) for values in IMAGENET)
    return deviation / DEVIATION, (mean - MEAN) / DEVIATION


def _folded(kernel: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """The kernel for our pixels from one for the authors', which is linear: (D, 3, u, p, p) and (D,)."""
    factor, offset = _statistics()
    return kernel * factor, bias + (kernel * offset).sum(dim=(1, 2, 3, 4))


def _fused(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Queries, keys and values of each block as one map, in this order, where they are apart."""
    fused = {name: value for name, value in state.items() if not re.search(r"\.attn\.[qkv]\.(weight|bias)$", name)}
    for name, value in state.items():
        if match := re.fullmatch(r"(.+\.attn\.)q(\.(?:weight|bias))", name):
            others = [state.get(f"{match[1]}{part}{match[2]}") for part in "kv"]
            if None in [other if other is None else 0 for other in others]:
                continue  # the method then reports what it lacks
            fused[f"{match[1]}qkv{match[2]}"] = torch.cat([value, *others])
    return fused
