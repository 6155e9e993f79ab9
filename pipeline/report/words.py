"""What the report calls things: names of stages and metrics as the field writes them."""

from __future__ import annotations

STAGES = {
    "prepare": "Preparation",
    "pretrain": "Pretraining",
    "knn": "k-nearest neighbours",
    "linear_probe": "Linear probe",
    "finetune": "Fine-tuning",
    "detect": "Detection and instance segmentation",
    "segment": "Semantic segmentation",
}
SHORT_STAGES = {"knn": "k-NN", "detect": "Detection", "segment": "Segmentation"}
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
}


def stage(name: str) -> str:
    """A stage's full name; unknown ones are spelled from their identifier."""
    return STAGES.get(name, name.replace("_", " ").capitalize())


def short_stage(name: str) -> str:
    """A stage's name for a narrow column."""
    return SHORT_STAGES.get(name, stage(name))


def metric(name: str) -> str:
    """A metric's name as papers print it."""
    return METRICS.get(name, name.replace("_", " "))


def setting(name: str) -> str:
    """`options.mask_ratio` as `mask ratio`."""
    return name.rpartition(".")[2].replace("_", " ")
