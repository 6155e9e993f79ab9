"""End-to-end fine-tuning: the encoder and a linear classifier are trained together.

He et al. 2022 (arXiv:2111.06377), appendix A.1 and Table 9: layer-wise rate decay, drop path, mixup and cutmix, label
smoothing; the mean of the last block's patch tokens is normalised and classified. B images, D encoder width, C classes.

Departures: those of `pipeline.nn.mixing`, and no other from the authors' released code, whose position table is trained
here though it is fixed before.
"""

from typing import Any

import torch
import torch.nn.functional as F
from mmengine import dist
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.utils.data import Dataset

from pipeline.cell import Cell
from pipeline.data import draws
from pipeline.data.augment import build_transform
from pipeline.data.images import Images
from pipeline.data.transforms import normalised
from pipeline.engine.optim import TOKENS, layers_of
from pipeline.engine.processes import connect
from pipeline.engine.train import train
from pipeline.nn.encoders import is_transformer, load_image_encoder
from pipeline.nn.families.beit import unshare_positions
from pipeline.nn.mixing import NUM_DRAWS, Mixing
from pipeline.tasks.accuracy import accuracy_record
from pipeline.tasks.features import apply, evaluation, evaluation_set, pool


class Classifier(BaseModel):
    """An encoder whose pooled, normalised patch tokens are classified.

    Args:
        encoder: trained here, positions included; a transformer's final norm gives way to one after pooling, and
            positions that its blocks share become each block's own.
        num_classes: C.
        mixing: `mixup` and `cutmix` of `Mixing`; both at 0, or none, leave the batch as it is.
        label_smoothing: share of the label's weight spread over all classes.
        head_std: deviation of the classifier's first weights.
        seed: with epoch and index of a sample it decides the numbers drawn for it.
    """

    def __init__(
        self,
        encoder: nn.Module,
        num_classes: int,
        mixing: dict[str, float],
        label_smoothing: float,
        head_std: float = 2e-5,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if is_transformer(encoder):
            encoder.norm = nn.Identity()
            unshare_positions(encoder)
        self.encoder = encoder.requires_grad_(True)
        self.fc_norm = nn.LayerNorm(encoder.embed_dim, eps=1e-6) if is_transformer(encoder) else nn.Identity()
        self.head = nn.Linear(encoder.embed_dim, num_classes)
        nn.init.trunc_normal_(self.head.weight, std=head_std)
        nn.init.zeros_(self.head.bias)
        self.label_smoothing, self.seed = label_smoothing, seed
        mixed = any(mixing.values())
        self.mix = Mixing(**mixing, label_smoothing=label_smoothing, num_classes=num_classes) if mixed else None

    def forward(self, images: Tensor, labels: Tensor | None = None, mode: str = "tensor", **batch: Tensor) -> Any:
        """Logits (B, C), or with `mode="loss"` the cross-entropy of the mixed batch."""
        images = normalised(images)
        if mode == "tensor":
            return self.head(self.fc_norm(pool(self.encoder.forward_features(images), "mean")))
        smoothing = self.label_smoothing
        if self.mix is not None:
            drawn = draws.uniform(self.seed, batch["epoch"], batch["index"], NUM_DRAWS)
            images, labels = self.mix(images, labels, batch["index"], drawn)
            smoothing = 0.0  # mixing has smoothed the labels already
        logits = self(images).float()
        return {"loss": F.cross_entropy(logits, labels, label_smoothing=smoothing)}


def evaluate(cell: Cell) -> dict[str, Any] | None:
    """Fine-tune on the training split, measure on the validation split."""
    settings = cell.settings
    images = Images(cell.data / "files", "train", build_transform(settings["augment"]), cell.seed, raw=True)
    model, cost = fine_tune(cell, images, len(images.classes))
    val = evaluation_set(cell.data, "val", settings)
    logits = apply(model, val, evaluation(settings))
    if not dist.is_main_process():
        return None
    records = [accuracy_record(logits, val.labels, top) for top in (1, 5) if logits.shape[1] > top]
    return {"records": records, "cost": cost}


def fine_tune(cell: Cell, images: Dataset[Any], num_classes: int) -> tuple[Classifier, dict[str, Any]]:
    """The cell's encoder trained to classify these images, and what it cost."""
    connect()
    settings = cell.settings
    torch.manual_seed(cell.seed)
    encoder = load_image_encoder(cell.encoder, settings["image_size"], settings["drop_path"])
    mixing = {key: settings[key] for key in ("mixup", "cutmix")}
    smoothing, head_std = settings["label_smoothing"], settings["head_std"]
    model = Classifier(encoder, num_classes, mixing, smoothing, head_std, cell.seed)
    cost = train(
        model,
        images,
        settings["train"],
        work=cell.work,
        files=cell.files,
        seed=cell.seed,
        no_decay=TOKENS,
        layers=layers_of(encoder),
    )
    return model, cost
