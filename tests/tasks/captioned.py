"""A few captioned digits, prepared."""

from pathlib import Path

from pipeline.data.sources.image_text import captioned_digits

PHRASES = (
    "a {colour} {digit} at the {place} of a photo of {ground}",
    "{ground} with a {colour} {digit} at the {place}",
    "the digit {digit} in {colour} over {ground}",
    "at the {place} there is a {digit} , {colour} on {ground}",
    "a {colour} number {digit}",
    "a handwritten {digit} on {ground}",
    "photo of {ground} and {digit} in {colour} ink",
)
OPTIONS = {"train_images": 40, "val_images": 20, "num_texts": 4, "image_size": 16,
           "photos": ("brick", "grass"), "colours": ("red", "blue", "white"),
           "ground": 0.5, "window": 48, "scale": (0.55, 0.75), "shift": 0.15, "rotation": 10.0, "shear": 0.1,
           "phrases": PHRASES,
           "silent_share": 0.2, "vocabulary_size": 70, "val_share": 0.28, "seed": 0}  # fmt: skip


def prepare(folder: Path) -> Path:
    """The folder, with the set in it."""
    (folder / "files").mkdir(parents=True)
    captioned_digits.prepare(captioned_digits.Options(**OPTIONS), folder / "work", folder / "files")
    return folder
