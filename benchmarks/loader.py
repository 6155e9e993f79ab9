"""Processor time per photograph of one loader on one core, beside torchvision's ImageFolder and Pillow.

    python -m benchmarks.loader [--images 64] [--rounds 5]

Bundled photographs, 500 x 375 and JPEG of quality 90, packed as they are and at a short side of 256. They take
turns batch by batch in one process; each batch gives a ratio. What models normalise on their device is not counted.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import timm.data
import torch
import yaml
from PIL import Image
from torchvision import transforms
from torchvision.datasets import ImageFolder

from pipeline.data.augment import build_transform
from pipeline.data.bounded import bounded
from pipeline.data.bundled import bundled
from pipeline.data.images import Images
from pipeline.data.inspection import read_picture
from pipeline.data.packed import PackWriter
from pipeline.data.policies import _mend
from pipeline.data.transforms import MEAN, STD, Transform

PHOTOGRAPHS = (
    ("skimage", "data/astronaut.png"),
    ("skimage", "data/chelsea.png"),
    ("skimage", "data/coffee.png"),
    ("skimage", "data/rocket.jpg"),
    ("skimage", "data/motorcycle_left.png"),
    ("sklearn", "datasets/images/china.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
)
SIZE = (500, 375)
BATCH = 16
PACKS = {"whole": None, "at 256": 256}  # short sides


def write(folder: Path, num: int) -> None:
    """The photographs as an ImageFolder and as packs."""
    paths = [folder / f"folder/one/{number:05d}.jpg" for number in range(num)]
    paths[0].parent.mkdir(parents=True)
    for number, path in enumerate(paths):
        with Image.open(bundled(*PHOTOGRAPHS[number % len(PHOTOGRAPHS)])) as photograph:
            image = photograph.convert("RGB").resize(SIZE, Image.Resampling.LANCZOS)
        image.save(path, "JPEG", quality=90)
    for name, short_side in PACKS.items():
        with PackWriter(folder / name, "train", 2**30) as pack:
            for path in paths:
                picture = bounded(read_picture(folder, path), short_side, 90)
                pack.add(path.name, picture.data, label=0, height=picture.height, width=picture.width)
        (folder / name / "classes.json").write_text('["one"]')


def references(crop: dict, auto: dict) -> dict[str, Callable]:
    """What others do to a Pillow image."""
    sizes = {"scale": crop["scale"], "ratio": crop["ratio"]}
    cut = transforms.RandomResizedCrop(crop["image_size"], **sizes, interpolation=transforms.InterpolationMode.BICUBIC)
    ending = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    finetune = timm.data.create_transform(
        auto["image_size"], is_training=True, scale=auto["scale"], ratio=auto["ratio"], auto_augment=auto["policy"],
        color_jitter=None, interpolation="bicubic", re_prob=auto["erase_ratio"], mean=MEAN, std=STD,
    )  # fmt: skip
    _mend(next(step.ops for step in finetune.transforms if hasattr(step, "ops")))  # it would stop at some images
    return {"crop": transforms.Compose([cut, transforms.RandomHorizontalFlip(), *ending]), "auto": finetune}


def milliseconds(read: Callable[[list[int]], object], indices: list[int]) -> float:
    started = time.process_time()
    read(indices)
    return (time.process_time() - started) / len(indices) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.loader", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    sections = {
        kind: yaml.safe_load(Path(f"config/{path}.yaml").read_text())["paper"]["augment"]
        for kind, path in (("crop", "recipes/mae"), ("auto", "tasks/finetune"))
    }
    print("processor ms an image, one thread: 500 x 375 JPEG of quality 90")
    print(f"{'augmentation':>12} {'ImageFolder + Pillow':>21} {'our packs':>10} {'ms':>6} {'times':>6}")
    with tempfile.TemporaryDirectory() as place:
        write(Path(place), arguments.images)
        for kind, transform in references(sections["crop"], sections["auto"]).items():
            folder, augment = ImageFolder(f"{place}/folder", transform), build_transform(sections[kind])

            def theirs(indices: list[int], folder: ImageFolder = folder) -> torch.Tensor:
                return torch.stack([folder[index][0] for index in indices])

            readers = {"theirs": theirs} | {name: reader(Path(place) / name, augment) for name in PACKS}
            for read in readers.values():
                read([0])
            batches = [list(range(first, first + BATCH)) for first in range(0, arguments.images, BATCH)]
            rounds = [{name: milliseconds(read, batch) for name, read in readers.items()}
                      for batch in batches * arguments.rounds]  # fmt: skip
            for name in PACKS:
                slow, fast = (statistics.median(row[column] for row in rounds) for column in ("theirs", name))
                times = statistics.median(row["theirs"] / row[name] for row in rounds)
                print(f"{kind:>12} {slow:21.2f} {name:>10} {fast:6.2f} {times:6.2f}", flush=True)
    torch.set_num_threads(threads)


def reader(folder: Path, augment: Transform) -> Callable[[list[int]], object]:
    """Batches of a pack by index, in the first epoch."""
    images = Images(folder, "train", augment, seed=0, in_memory=0, raw=True)
    return lambda indices: images.__getitems__([(0, index) for index in indices])


if __name__ == "__main__":
    main()
