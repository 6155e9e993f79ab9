"""M3AE: hide most patches of an image and most words of its caption, encode the rest as one sequence, fill both in.

Geng et al., "Multimodal Masked Autoencoders Learn Transferable Representations", 2022, arXiv:2205.14204.
B images, L patches, T tokens of a caption, U of a text without an image, P pixel values per patch, D encoder width,
V tokens of the vocabulary.

Departures: targets are pixels, and tokens of a VQGAN, which the authors' code offers besides, are left out, since its
tokenisers are others' weights. Vectors, LayerNorm's scales among them, do not decay; the authors' decay the scales.
Images come normalised by ImageNet's statistics, as everywhere here; targets are brought to the authors', those of
Conceptual 12M, and released weights have the difference folded in. Positions of patches are those of MAE.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config import ConfigError
from pipeline.masking.uniform import Masking, mean_over, num_visible, uniform_mask
from pipeline.methods.base import Context, Draw, Method, Step
from pipeline.nn.families.vit import embed_patches
from pipeline.nn.families.vit_joint import STD, sincos_line
from pipeline.nn.flax import linear_maps, patch_kernel
from pipeline.nn.joint import JointDecoder, Stream
from pipeline.nn.patches import patchify, unpatchify
from pipeline.nn.positions import sincos_table

LONGEST = 512  # tokens of a text, as BERT reads
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CC12M = ((0.5762, 0.5503, 0.5213), (0.3207, 0.3169, 0.3307))  # released code


@dataclass(frozen=True, kw_only=True)
class M3AEOptions:
    """The numbers of M3AE itself; `config/recipes/m3ae.yaml` gives them with their sources.

    image_mask_ratio: share of the patches that is hidden.
    text_mask_ratio: share of the places of a text that is hidden, padded ones among them.
    text_weight: of the loss of captions beside that of images, which has weight 1.
    unpaired_text_weight: of the loss of texts without images; 0 for none, which costs nothing.
    image_all_tokens, text_all_tokens: visible patches, visible words take part in the loss too.
    shared_mask: one draw for all samples of a device's batch, as the authors' code has it, not one for each.
    vocabulary_size: V.
    decoder_width, decoder_depth, decoder_heads: sizes of the decoder.
    """

    image_mask_ratio: float
    text_mask_ratio: float
    text_weight: float
    unpaired_text_weight: float
    image_all_tokens: bool
    text_all_tokens: bool
    shared_mask: bool
    vocabulary_size: int
    decoder_width: int
    decoder_depth: int
    decoder_heads: int


class M3AE(Method):
    Options = M3AEOptions

    def __init__(self, encoder: nn.Module, options: M3AEOptions, context: Context) -> None:
        super().__init__(encoder, options, context)
        patches, width = encoder.patch_embed, encoder.embed_dim
        num_visible(patches.num_patches, options.image_mask_ratio)  # refuses an impossible ratio early
        self.text_embed = nn.Embedding(options.vocabulary_size, width)  # normal, with a deviation of 1
        self.text_type = nn.Parameter(STD * torch.randn(1, 1, width))
        # Buffers, since what is made of Python's numbers in a step is copied to the device in each of them.
        self.register_buffer("text_positions", sincos_line(width, LONGEST), persistent=False)
        for name, value in zip(("factor", "offset"), _statistics(), strict=True):
            self.register_buffer(name, value, persistent=False)
        self.decoder = JointDecoder(
            width,
            options,
            out={"image": 3 * patches.patch_size[0] ** 2, "text": options.vocabulary_size},
            positions={
                "image": sincos_table(options.decoder_width, *patches.grid_size, num_prefix=0),
                "text": sincos_line(options.decoder_width, LONGEST),
            },
        )

    def inputs(self, batch: Mapping[str, Tensor], draw: Draw) -> dict[str, Tensor]:
        """Images, captions and, where they count, texts without images.

        Raises:
            ConfigError: texts without images have a weight, and there are none.
        """
        names = ["images", "ids", "padding"]
        if self.options.unpaired_text_weight:
            names += ["text_ids", "text_padding"]
            if names[-1] not in batch:
                raise ConfigError(
                    f"options.unpaired_text_weight is {self.options.unpaired_text_weight}, and text.unpaired_length is "
                    "0: there are no texts without images; give them a length, or no weight"
                )
        given = {name: batch[name] for name in names}
        lengths = [value.shape[1] for name, value in given.items() if name.endswith("ids")]
        return {**given, "noise": draw(sum(lengths, self.encoder.patch_embed.num_patches))}

    def forward(
        self,
        images: Tensor,
        ids: Tensor,
        padding: Tensor,
        noise: Tensor,
        text_ids: Tensor | None = None,
        text_padding: Tensor | None = None,
    ) -> Step:
        """One training step.

        Args:
            images: (B, 3, H, W), normalised.
            ids: (B, T), tokens of the captions.
            padding: (B, T), True where there is no token; all of an image without a caption.
            noise: (B, L + T + U) uniform draws, for patches, captions and texts: the smallest stay visible.
            text_ids, text_padding: (B, U), texts without images.

        Returns:
            loss (), prediction (B, L, P), target (B, L, P), mask (B, L), True where hidden.
        """
        if self.options.shared_mask:
            noise = noise[:1].expand_as(noise)
        streams = self.hide(images, ids, padding, noise)
        filled, mask = self.fill(streams), streams["image"].masking.mask
        target = self.target(images)
        # In float32 under autocast too: the difference of two nearly equal numbers is what matters.
        error = F.mse_loss(filled["image"].float(), target, reduction="none").mean(dim=2)  # (B, L)
        image_loss = error.mean() if self.options.image_all_tokens else mean_over(error, mask)
        parts = {"image_loss": image_loss, "text_loss": self.text_loss(filled["text"], ids, streams["text"])}
        loss = image_loss + self.options.text_weight * parts["text_loss"]
        if text_ids is not None and text_padding is not None:
            masking = uniform_mask(noise[:, -text_ids.shape[1] :], self.options.text_mask_ratio)
            texts = self.read(text_ids, text_padding, masking)
            parts["unpaired_text_loss"] = self.text_loss(self.fill({"text": texts})["text"], text_ids, texts)
            loss = loss + self.options.unpaired_text_weight * parts["unpaired_text_loss"]
        return Step(loss, filled["image"], target, mask, parts={name: part.detach() for name, part in parts.items()})

    def hide(self, images: Tensor, ids: Tensor, padding: Tensor, noise: Tensor) -> dict[str, Stream]:
        """Patches and words, each with what is hidden of them; as `forward` takes them, noise (B, L + T) or more."""
        num_patches, num = self.encoder.patch_embed.num_patches, self.encoder.patch_embed.num_patches + ids.shape[1]
        return {
            "image": self.see(images, uniform_mask(noise[:, :num_patches], self.options.image_mask_ratio)),
            "text": self.read(ids, padding, uniform_mask(noise[:, num_patches:num], self.options.text_mask_ratio)),
        }

    def see(self, images: Tensor, masking: Masking) -> Stream:
        """Embedded patches, with their positions and type: (B, 3, H, W) -> (B, L, D)."""
        tokens = embed_patches(self.encoder, images)
        return Stream(tokens, masking, torch.zeros_like(masking.mask))

    def read(self, ids: Tensor, padding: Tensor, masking: Masking) -> Stream:
        """Embedded words, with their positions and type: (B, T) -> (B, T, D)."""
        if ids.shape[1] > LONGEST:
            raise ConfigError(f"text.length is {ids.shape[1]}; expected at most {LONGEST} tokens")
        tokens = self.text_embed(ids) + self.text_positions[:, : ids.shape[1]] + self.text_type
        return Stream(tokens, masking, padding)

    def fill(self, streams: Mapping[str, Stream]) -> dict[str, Tensor]:
        """What every place is taken for, from those that are visible: pixels (B, L, P), scores of tokens (B, T, V).

        Args:
            streams: `image`, `text`, or both, in this order.
        """
        visible = torch.cat([stream.visible for stream in streams.values()], dim=1)
        padding = torch.cat([stream.visible_padding for stream in streams.values()], dim=1)
        return self.decoder(self.encoder.encode_joint(visible, padding), streams)

    def text_loss(self, scores: Tensor, ids: Tensor, words: Stream) -> Tensor:
        """Cross-entropy of hidden words: the mean of each text's, then of all texts; one without a word counts as 0.

        Args:
            scores: (B, T, V).
            ids: (B, T).
        """
        counted = ~words.padding if self.options.text_all_tokens else words.masking.mask & ~words.padding
        entropy = F.cross_entropy(scores.flatten(0, 1).float(), ids.flatten(), reduction="none").view_as(ids)  # (B, T)
        return ((entropy * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1)).mean()

    def target(self, images: Tensor) -> Tensor:
        """What the hidden patches are to become: (B, 3, H, W) -> (B, L, P)."""
        return patchify(images.float() * self.factor + self.offset, self.encoder.patch_embed.patch_size[0])

    @torch.no_grad()
    def pictures(self, step: Step, images: Tensor) -> dict[str, Tensor]:
        """Input, what was visible, and the reconstruction with the visible patches pasted in."""
        grid, hidden = self.encoder.patch_embed.grid_size, step.mask[..., None]
        everywhere = unpatchify(hidden.expand_as(step.prediction).float(), grid) > 0
        painted = (unpatchify(step.prediction.float(), grid) - self.offset) / self.factor
        return {
            "input": images,
            "masked": images.masked_fill(everywhere, 0.0),
            "reconstruction": torch.where(everywhere, painted, images.float()),
        }

    @classmethod
    def translate(cls, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The authors' arrays, as `pipeline.nn.flax` writes them, in our names; also those of their MAE on images.

        Positions are not among them: they are computed, see `resize`.
        """
        renamed = linear_maps(state, _NAMES)
        kernel, bias = (f"encoder.patch_embed.proj.{part}" for part in ("weight", "bias"))
        if {kernel, bias} <= renamed.keys():
            weight = patch_kernel(renamed[kernel])
            factor, offset = _statistics()
            renamed[kernel] = weight * factor
            renamed[bias] = renamed[bias] + (weight * offset).sum(dim=(1, 2, 3))
        if "encoder.cls_token" in renamed:  # their MAE on images has no type
            renamed.setdefault("encoder.pos_embed_type", torch.zeros_like(renamed["encoder.cls_token"]))
        return renamed

    def resize(self, state: Mapping[str, Tensor]) -> None:
        """Fixed positions of patches, which are those of the encoder's own grid, stand in no released file."""
        if isinstance(state, dict):
            state.setdefault("encoder.pos_embed_image", self.encoder.pos_embed_image.detach())


# Parts of the authors' tree in ours; linear maps inside have kernels to be transposed.
_NAMES = {
    "cls_token": "encoder.cls_token",
    "encoder_image_type_embedding": "encoder.pos_embed_type",
    "encoder_text_type_embedding": "text_type",
    "image_embedding": "encoder.patch_embed.proj",
    "text_embedding/embedding": "text_embed.weight",
    "encoder": "encoder",
    "decoder": "decoder",
    "decoder_input_projection": "decoder.embed",
    "decoder_image_type_embedding": "decoder.types.image",
    "decoder_text_type_embedding": "decoder.types.text",
    "image_mask_embedding": "decoder.mask_tokens.image",
    "text_mask_embedding": "decoder.mask_tokens.text",
    "decoder_image_output/Dense_0": "decoder.heads.image",
    "decoder_text_output/Dense_0": "decoder.heads.text",
}


def _statistics() -> tuple[Tensor, Tensor]:
    """Factor and offset, (3, 1, 1) each, from pixels normalised as everywhere here to the authors'."""
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in IMAGENET)
    theirs, their_deviation = (torch.tensor(values).view(3, 1, 1) for values in CC12M)
    return deviation / their_deviation, (mean - theirs) / their_deviation
