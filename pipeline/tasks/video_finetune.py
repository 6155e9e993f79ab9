"""End-to-end fine-tuning on videos: the encoder and a linear classifier are trained together.

Feichtenhofer et al. 2022 (arXiv:2205.09113), appendix A and released code: the mean of the patch tokens goes through
the pretrained final norm, dropout and one linear map; scores are averaged over views in time and space. An image ViT
is inflated. B clips of T frames, C classes.

Departures: those of `pipeline.nn.mixing`.
"""

from typing import Any

import torch
from mmengine import dist
from torch import nn

from pipeline.cell import Cell
from pipeline.data.kinds.video import open_eval, open_train
from pipeline.engine.optim import layers_of
from pipeline.engine.processes import connect
from pipeline.engine.train import train
from pipeline.tasks.accuracy import accuracy_record
from pipeline.tasks.clips import Clips, apply_views, load_spacetime
from pipeline.tasks.features import evaluation
from pipeline.tasks.finetune import Classifier

HEAD_STD = 2e-5  # of the classifier's first weights, as where a checkpoint is loaded in the released code


class VideoClassifier(Classifier):
    """A space-time encoder whose pooled patch tokens are normalised by its own final norm, and classified.

    Args:
        encoder, num_classes, mixing, label_smoothing, seed: as `Classifier`.
        dropout: between norm and classifier.
    """

    def __init__(
        self,
        encoder: nn.Module,
        num_classes: int,
        mixing: dict[str, float],
        label_smoothing: float,
        dropout: float,
        seed: int = 0,
    ) -> None:
        norm = encoder.norm
        super().__init__(encoder, num_classes, mixing, label_smoothing, HEAD_STD, seed)
        self.fc_norm = nn.Sequential(norm, nn.Dropout(dropout))


def evaluate(cell: Cell) -> dict[str, Any] | None:
    """Fine-tune on the training split, measure on the validation split over all views."""
    connect()
    settings = cell.settings
    samples = Clips(open_train(cell.data, settings, cell.seed))
    torch.manual_seed(cell.seed)
    encoder = load_spacetime(cell.encoder, settings)
    mixing = {key: settings[key] for key in ("mixup", "cutmix")}
    smoothing, dropout = settings["label_smoothing"], settings["dropout"]
    model = VideoClassifier(encoder, len(samples.classes), mixing, smoothing, dropout, cell.seed)
    cost = train(
        model,
        samples,
        settings["train"],
        work=cell.work,
        files=cell.files,
        seed=cell.seed,
        layers=layers_of(encoder),
    )
    val = Clips(open_eval(cell.data, "val", settings))
    scores = nn.Sequential(model, nn.Softmax(dim=1))
    shares = apply_views(scores, val, evaluation(settings))
    if not dist.is_main_process():
        return None
    records = [accuracy_record(shares, val.labels, top) for top in (1, 5) if shares.shape[1] > top]
    return {"records": records, "cost": cost}
