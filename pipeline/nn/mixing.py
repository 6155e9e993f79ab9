"""Mixup and CutMix of neighbours, each pair by draws of its own.

Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018, arXiv:1710.09412; Yun et al., "CutMix", ICCV 2019,
arXiv:1905.04899. B samples, C classes.

Departures: timm, whose code the authors of the papers here use, mixes a device's batch with itself reversed, by one
draw for all of it. Here each sample is mixed with the one beside it in the global batch, by draws of the first of the
two, so that any number of devices and micro-batches with an even number of samples each makes the same of them.
"""

import numpy as np
import torch
from scipy.special import betaincinv
from torch import Tensor, nn

NUM_DRAWS = 4  # of a pair: which kind, the share, and the place of a rectangle
PIECES = 4096  # of the inverse distribution function, which is taken as linear in between


class Mixing(nn.Module):
    """Blend samples and their labels in pairs; half of the pairs by each kind where both are on.

    Args:
        mixup, cutmix: parameters of their symmetric Beta distributions, one of them above 0; 0 switches one off.
        label_smoothing: share of the label's weight spread over all classes.
        num_classes: C.
    """

    def __init__(self, mixup: float, cutmix: float, label_smoothing: float, num_classes: int) -> None:
        super().__init__()
        self.cutmix_share = 0.0 if not cutmix else 0.5 if mixup else 1.0
        self.label_smoothing, self.num_classes = label_smoothing, num_classes
        levels = np.linspace(0, 1, PIECES + 1)
        tables = np.stack([betaincinv(alpha or 1.0, alpha or 1.0, levels) for alpha in (mixup, cutmix)])
        self.register_buffer("shares", torch.tensor(tables, dtype=torch.float32), persistent=False)

    def forward(self, samples: Tensor, labels: Tensor, index: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Mixed samples, and (B, C) shares of the classes; of an odd number the last one is left alone.

        Args:
            samples: (B, 3, ..., H, W); the same is done to all that is in between.
            labels: (B,).
            index: (B,) of the samples in their set; several of one item stand one after the other.
            draws: (B, `NUM_DRAWS`) uniform.
        """
        partner = self.partners(index)
        draws = draws[torch.minimum(partner, torch.arange(len(partner), device=partner.device))]
        cut = draws[:, 0] < self.cutmix_share
        share = self._share(cut.long(), draws[:, 1])
        height, width = samples.shape[-2:]
        side = (1 - share).sqrt()
        inside = _span(height, side, draws[:, 2])[:, :, None] & _span(width, side, draws[:, 3])[:, None, :]
        own = torch.where(cut[:, None, None], (~inside).float(), share[:, None, None])  # (B, H, W)
        weight = own.view(len(own), *[1] * (samples.ndim - 3), height, width)
        mixed = weight * samples + (1 - weight) * samples[partner]
        share = own.mean(dim=(1, 2))[:, None]
        classes = (labels[:, None] == torch.arange(self.num_classes, device=labels.device)).float()
        classes = share * classes + (1 - share) * classes[partner]
        return mixed, (1 - self.label_smoothing) * classes + self.label_smoothing / self.num_classes

    @staticmethod
    def partners(index: Tensor) -> Tensor:
        """(B,) place of each sample's partner: of the next item, or of the one before, the one of equal number."""
        place = torch.arange(len(index), device=index.device)
        repeats = (index == index[0]).long().cumprod(dim=0).sum()  # left on the device
        partner = place + repeats * (1 - 2 * (place // repeats % 2))
        return torch.where(partner < len(index), partner, place)

    def _share(self, kind: Tensor, draws: Tensor) -> Tensor:
        """A sample's own share, from uniform draws: (B,), 0 or 1 for mixup or CutMix, and (B,) -> (B,)."""
        place = draws * PIECES
        piece = place.long()
        low, high = self.shares[kind, piece], self.shares[kind, piece + 1]
        return low + (place - piece) * (high - low)


def _span(size: int, side: Tensor, centre: Tensor) -> Tensor:
    """(B, size), True within a side's length around a centre, both (B,) fractions; rounded as in CutMix's code."""
    half, middle = ((size * side).long() // 2)[:, None], (size * centre).long()[:, None]
    position = torch.arange(size, device=side.device)
    return (position >= middle - half) & (position < middle + half)
