"""What the report calls things: names of methods, stages, metrics and settings as the field writes them."""

from __future__ import annotations

import re
from typing import Any

METHODS = {
    "mae": "MAE",
    "dbot": "dBOT",
    "maskdistill": "MaskDistill",
    "imae": "i-MAE",
    "clmae": "CL-MAE",
    "mixmask": "MixMask",
}
STAGES = {
    "prepare": "Preparation",
    "pretrain": "Pretraining",
    "knn": "k-nearest neighbours",
    "linear_probe": "Linear probe",
    "finetune": "Fine-tuning",
    "detect": "Detection and instance segmentation",
    "segment": "Semantic segmentation",
    "separability": "Linear separability of blended images",
}
SHORT_STAGES = {"knn": "k-NN", "detect": "Detection", "segment": "Segmentation", "separability": "Separability"}
METRICS = {
    "top1": "top-1",
    "top5": "top-5",
    "box_ap": "box AP",
    "box_ap50": "box AP50",
    "mask_ap": "mask AP",
    "mask_ap50": "mask AP50",
    "miou": "mIoU",
    "macc": "mAcc",
    "aacc": "aAcc",
}
# What stands for a task in the leaderboard; a task that is not listed is led by its first record.
HEADLINES = {
    "knn": ("top1",),
    "linear_probe": ("top1",),
    "finetune": ("top1",),
    "detect": ("box_ap", "mask_ap"),
    "segment": ("miou",),
    "separability": ("r2_fainter",),
}
SETTINGS = {
    "stages": "number of stages",
    "teacher": "teacher of the first stage",
    "options.norm_pixels": "normalised pixels as target",
    "options.norm_target": "normalisation of the target",
    "options.decoder_heads": "heads of the decoder",
    "options.beta": "smooth L1’s β",
    "options.fill": "filling of the masked part",
    "options.mask_kind": "kind of mask",
    "options.own_share": "share of own pixels",
    "options.grid_size": "cells along the mask’s side",
    "options.soft_distance": "distances weighted by area",
    "options.unmix": "Un-Mix beside it",
    "options.mix_weight": "weight in the blend",
    "options.num_branches": "number of branches",
    "options.distill_weight": "weight of distillation",
    "options.teacher_input": "what the teacher sees",
    "options.gauss_weight": "weight of the Gaussian term",
    "options.kl_weight": "weight of the divergence from the mask ratio",
    "options.diversity_weight": "weight of diversity",
    "same_class_share": "share of pairs of one class",
    "train.duration": "length of pretraining",
    "train.base_lr": "base learning rate",
    "train.inherit_optimizer": "optimiser kept between stages",
}


def method(name: str) -> str:
    """A method's name as its authors write it."""
    return METHODS.get(name, name)


def stage(name: str) -> str:
    """A stage's full name; unknown ones are spelled from their identifier."""
    return STAGES.get(name, name.replace("_", " ").capitalize())


def short_stage(name: str) -> str:
    """A stage's name for a narrow column."""
    return SHORT_STAGES.get(name, stage(name))


def metric(name: str) -> str:
    """A metric's name as papers print it: `r2_fainter` as `R² fainter`, `agreement_k5` as `agreement k = 5`."""
    spelled = re.sub(r"^r2(?=_|$)", "R²", name).replace("_", " ")
    return METRICS.get(name, re.sub(r"\bk(\d+)$", r"k = \1", spelled))


def setting(name: str) -> str:
    """`options.mask_ratio` as `mask ratio`."""
    return SETTINGS.get(name, name.rpartition(".")[2].replace("_", " "))


def sentence(text: str) -> str:
    """A text with its first letter raised, as a title begins."""
    return text[:1].upper() + text[1:]


def value(content: Any) -> str:
    """A setting's value: `true` as `yes`, what is left open as `none`."""
    if isinstance(content, bool):
        return "yes" if content else "no"
    return "none" if content is None else str(content)
