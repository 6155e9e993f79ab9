"""Linear probing: a linear classifier on frozen features, with MAE's protocol.

He et al. 2022 (arXiv:2111.06377), appendix A.1 and Table 10: BatchNorm without affine parameters, one linear map,
LARS, weak augmentation. Several learning rates share one pass over the data, each with a head of its own.
B images, D encoder width, C classes.

Departures: the paper states one rate; here the rate is chosen on training images held out from all heads, never on
the validation split. MoCo's probe (He et al. 2020, arXiv:1911.05722), SGD without BatchNorm whose rate falls twice, is
a matter of settings: `optimizer`, `milestones`, `normalise`; of its epochs the last counts here, not the best.
"""

import json
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from mmengine import dist
from mmengine.model import BaseModel
from torch import Tensor, nn

from pipeline.cell import Cell
from pipeline.data.augment import build_transform
from pipeline.data.draws import bits
from pipeline.data.images import Images
from pipeline.data.transforms import normalised
from pipeline.engine.processes import connect
from pipeline.engine.train import train
from pipeline.files import write_atomic
from pipeline.nn.encoders import load_image_encoder
from pipeline.tasks.accuracy import accuracy_record
from pipeline.tasks.features import Part, apply, evaluation, evaluation_set, pool

HOLD_OUT = 102  # the stream of draws that chooses the held-out images


class LinearProbe(BaseModel):
    """Frozen encoder, one BatchNorm if wanted, one linear head per learning rate.

    Args:
        encoder: frozen here.
        feature: how its tokens are pooled.
        num_classes: C.
        num_heads: learning rates tried.
        normalise: features, by a BatchNorm without affine parameters.
    """

    def __init__(
        self, encoder: nn.Module, feature: str, num_classes: int, num_heads: int, normalise: bool = True
    ) -> None:
        super().__init__()
        self.encoder, self.feature = encoder.requires_grad_(False), feature
        self.norm = nn.BatchNorm1d(encoder.embed_dim, affine=False, eps=1e-6) if normalise else nn.Identity()
        self.heads = nn.ModuleList(nn.Linear(encoder.embed_dim, num_classes) for _ in range(num_heads))
        for head in self.heads:
            nn.init.trunc_normal_(head.weight, std=0.01)
            nn.init.zeros_(head.bias)

    def train(self, mode: bool = True) -> "LinearProbe":
        super().train(mode)
        self.encoder.eval()  # frozen in its behaviour too
        return self

    def forward(self, images: Tensor, labels: Tensor | None = None, mode: str = "tensor", **_: Tensor) -> Any:
        """Logits (B, heads, C), or with `mode="loss"` the sum of the heads' losses, which share no parameter."""
        with torch.no_grad():
            features = pool(self.encoder.forward_features(normalised(images)), self.feature)
        features = self.norm(features.float())
        logits = torch.stack([head(features) for head in self.heads], dim=1)
        if mode == "tensor":
            return logits
        return {"loss": sum(F.cross_entropy(logits[:, head].float(), labels) for head in range(len(self.heads)))}


def evaluate(cell: Cell) -> dict[str, Any] | None:
    """Train the heads, choose a rate on held-out training images, measure it on the validation split."""
    connect()
    settings = cell.settings
    images = Images(cell.data / "files", "train", build_transform(settings["augment"]), cell.seed, raw=True)
    torch.manual_seed(cell.seed)
    encoder = load_image_encoder(cell.encoder, settings["image_size"])
    return probe_encoder(cell, encoder, images, lambda split: evaluation_set(cell.data, split, settings), apply)


def probe_encoder(
    cell: Cell, encoder: nn.Module, samples: Any, unaugmented: Callable[[str], Any], apply: Callable[..., Tensor]
) -> dict[str, Any] | None:
    """What `evaluate` does, whatever the encoder looks at; PyTorch's generator has been seeded for the heads.

    Args:
        encoder: takes what batches have as `images`.
        samples: the training split, augmented.
        unaugmented: from a split to its samples as they are.
        apply: gives what a model makes of each sample of such a set, as `pipeline.tasks.features.apply` does.
    """
    settings = cell.settings
    kept, held_out = hold_out(len(samples), settings["holdout_share"], cell.seed)
    rates = settings["train"]["base_lr"]
    probe = LinearProbe(encoder, settings["feature"], len(samples.classes), len(rates), settings["normalise"])
    cost = train(
        probe,
        Part(samples, kept),
        settings["train"],
        work=cell.work,
        files=cell.files,
        seed=cell.seed,
        parts=list(probe.heads),
    )
    settings = evaluation(settings)
    chosen, share = 0, None
    if len(rates) > 1:
        part = Part(unaugmented("train"), held_out)
        guesses = apply(probe, part, settings).argmax(dim=2)
        share = (guesses == part.labels[:, None]).float().mean(dim=0)
        chosen = int(share.argmax())
    val = unaugmented("val")
    logits = apply(probe, val, settings)
    if not dist.is_main_process():
        return None
    by_rate = [
        {"base_lr": rate, "held_out_top1": 100 * float(share[head]) if share is not None else None,
         **accuracy_record(logits[:, head], val.labels), "chosen": head == chosen}
        for head, rate in enumerate(rates)
    ]  # fmt: skip
    write_atomic(cell.files / "rates.json", json.dumps(by_rate, indent=1))
    return {"records": [accuracy_record(logits[:, chosen], val.labels)], "cost": cost}


def hold_out(num_images: int, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Indices that train the heads and indices that choose between them, drawn by seed."""
    key = int(bits(seed, 0, 0, HOLD_OUT)) & (2**63 - 1)
    order = torch.randperm(num_images, generator=torch.Generator().manual_seed(key))
    count = round(num_images * share)
    return order[count:].sort().values, order[:count].sort().values
