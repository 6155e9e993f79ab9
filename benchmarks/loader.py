"""Processor time per photograph or clip of one loader on one core, beside torchvision, Pillow, timm and PyAV.

    python -m benchmarks.loader [--images 64] [--clips 8] [--rounds 5]

Bundled photographs, 500 x 375 and JPEG of quality 90, packed as they are and at a short side of 256, and videos of
340 x 256 that pan over them. They take turns batch by batch in one process; each batch gives a ratio. What models
normalise on their device is not counted.
"""

import argparse
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import av
import numpy as np
import timm.data
import torch
import yaml
from PIL import Image, ImageFilter, ImageOps
from timm.data.auto_augment import rand_augment_transform
from timm.data.random_erasing import RandomErasing
from torchvision import transforms
from torchvision.datasets import ImageFolder

from benchmarks.turns import Read, compared, one_thread
from pipeline.data.augment import build_transform
from pipeline.data.bounded import bounded
from pipeline.data.bundled import bundled
from pipeline.data.images import Images
from pipeline.data.inspection import read_picture
from pipeline.data.kinds.video import TrainClips
from pipeline.data.moving import FPS, write_tree
from pipeline.data.packed import PackWriter
from pipeline.data.sources.video import kinetics
from pipeline.data.transforms import MEAN, STD, CenterCrop, Transform

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
VIDEO, FRAMES = (256, 340), 300
# Whose numbers, and what is printed.
IMAGES = {"recipes/mae": "crop", "tasks/finetune": "auto", "recipes/mixmask": "jitter"}
CLIPS = {"recipes/mae_st": "clip", "tasks/video_finetune": "clip, auto"}


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


def write_videos(folder: Path, num: int) -> None:
    """Ten seconds each in a tree like that of Kinetics, and packed."""
    height, width = VIDEO
    clips = np.empty((num, FRAMES, height, width, 3), np.uint8)
    for number, clip in enumerate(clips):
        with Image.open(bundled(*PHOTOGRAPHS[number % len(PHOTOGRAPHS)])) as photograph:
            wide = np.asarray(photograph.convert("RGB").resize((width + FRAMES, height + FRAMES)))
        for time_, frame in enumerate(clip):
            frame[:] = wide[time_ : time_ + height, time_ : time_ + width]
    for split, count in (("train", num), ("val", 1)):
        write_tree(folder / "videos", split, ["pan"], np.zeros(count, np.int64), clips[:count])
    (folder / "clips/files").mkdir(parents=True)
    options = kinetics.Options(root=str(folder / "videos"), layout="kinetics", fold=1, min_frames=1, expect=None,
                               max_reject_share=0.0, num_workers=1, shard_mib=0)  # fmt: skip
    kinetics.prepare(options, folder / "work", folder / "clips/files")


def images_of_others(section: Mapping[str, Any]) -> Callable[[Image.Image], torch.Tensor]:
    """What torchvision or timm does to a Pillow image, by the numbers of a recipe's augmentation."""
    sizes = {"scale": section["scale"], "ratio": section["ratio"]}
    if section["kind"] == "auto":
        whole = timm.data.create_transform(
            section["image_size"], is_training=True, **sizes, auto_augment=section["policy"], color_jitter=None,
            interpolation="bicubic", re_prob=section["erase_ratio"], mean=MEAN, std=STD,
        )  # fmt: skip
        mend(next(step for step in whole.transforms if hasattr(step, "ops")))
        return whole
    kernel = transforms.InterpolationMode(section.get("interpolation", "bicubic"))
    steps = [transforms.RandomResizedCrop(section["image_size"], **sizes, interpolation=kernel)]
    if section["kind"] == "jitter":  # MoCo v2's own
        strengths = [section[name] for name in ("brightness", "contrast", "saturation", "hue")]
        steps += [
            transforms.RandomApply([transforms.ColorJitter(*strengths)], section["jitter_share"]),
            transforms.RandomGrayscale(section["grey_share"]),
            transforms.RandomApply(
                [lambda image: image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))], section["blur_share"]
            ),
        ]
    ending = [transforms.RandomHorizontalFlip(), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    return transforms.Compose([*steps, *ending])


def clips_of_others(paths: list[Path], section: Mapping[str, Any]) -> Read:
    """PyAV, timm's RandAugment of every frame as PySlowFast has it where there is a policy, and torchvision."""
    crop = transforms.Compose([
        transforms.RandomResizedCrop(section["image_size"], section["scale"], section["ratio"], antialias=False),
        transforms.RandomHorizontalFlip(),
    ])  # fmt: skip
    normalise = transforms.Normalize(MEAN, STD)
    augment, erase = None, None
    if section.get("policy"):
        augment = rand_augment_transform(section["policy"], {"interpolation": Image.Resampling.BICUBIC})
        mend(augment)
        erase = RandomErasing(section["erase_ratio"], mode="pixel", max_count=1, device="cpu")

    def read(number: int) -> torch.Tensor:
        step = section["sampling_rate"]
        start = random.randrange(FRAMES - step * section["num_frames"])
        wanted = {start + step * number for number in range(section["num_frames"])}
        frames: list[Image.Image] = []
        with av.open(str(paths[number % len(paths)])) as container:
            stream = container.streams.video[0]
            container.seek(round(start / FPS / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                if round(frame.time * FPS) in wanted:
                    frames.append(frame.to_image())
                    if len(frames) == len(wanted):
                        break
        if augment is not None:
            key, changed = random.randrange(2**32), []
            for frame in frames:
                random.seed(key)
                np.random.seed(key)
                changed.append(augment(frame))
            frames = changed
        video = torch.from_numpy(np.stack([np.asarray(frame) for frame in frames])).permute(0, 3, 1, 2)
        video = normalise(crop(video.float() / 255)).transpose(0, 1)
        return video if erase is None else erase(video.flatten(0, 1)).view_as(video)

    return lambda numbers: torch.stack([read(number) for number in numbers])


def mend(policy: Any) -> None:
    """Pillow 13 refuses the 0 bits that timm asks posterize for now and then."""

    def posterize(image: Image.Image, bits_to_keep: int, **_: object) -> Image.Image:
        return ImageOps.posterize(image, bits_to_keep) if bits_to_keep else Image.new(image.mode, image.size)

    for operation in policy.ops:
        if operation.name.startswith("Posterize"):
            operation.aug_fn = posterize


def contenders(place: Path, num_images: int, num_clips: int) -> Iterator[tuple[str, dict[str, Read], int, int]]:
    """Augmentations; each with its readers, `theirs` first, and the samples of its set and of a batch."""

    def section(path: str) -> Any:
        return yaml.safe_load(Path(f"config/{path}.yaml").read_text())["paper"]["augment"]

    def images(name: str, theirs: Callable[[Image.Image], torch.Tensor], transform: Transform) -> Any:
        folder = ImageFolder(f"{place}/folder", theirs)
        readers: dict[str, Read] = {
            "theirs": lambda numbers: torch.stack([folder[number % num_images][0] for number in numbers])
        }
        for pack in PACKS:
            readers[pack] = ours(Images(place / pack, "train", transform, seed=0, in_memory=0, raw=True), num_images)
        return name, readers, num_images, BATCH

    for path, name in IMAGES.items():
        yield images(name, images_of_others(section(path)), build_transform(section(path)))
    evaluation = transforms.Compose([
        transforms.Resize(256, transforms.InterpolationMode.BICUBIC),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ])  # fmt: skip
    yield images("plain", evaluation, CenterCrop(224, 256))
    paths = sorted((place / "videos/train/pan").glob("*.mp4"))
    for path, name in CLIPS.items():
        clips = TrainClips(place / "clips", section(path), 1, seed=0)
        assert clips.videos.pixels is None, "they are held decoded"
        readers = {"theirs": clips_of_others(paths, section(path)), "whole": ours(clips, num_clips)}
        yield name, readers, num_clips, num_clips


def ours(samples: Any, num: int) -> Read:
    return lambda numbers: samples.__getitems__([divmod(number, num) for number in numbers])


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.loader", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--clips", type=int, default=8)  # fewer would be held decoded
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print("processor ms a sample, one thread: 500 x 375 JPEG of quality 90, 340 x 256 H.264")
    print(f"{'augmentation':>14} {'others':>8} {'our packs':>10} {'ms':>7} {'times':>6}")
    with one_thread(), tempfile.TemporaryDirectory() as place:
        write(Path(place), arguments.images)
        write_videos(Path(place), arguments.clips)
        for kind, readers, num, size in contenders(Path(place), arguments.images, arguments.clips):
            for name, slow, fast, times in compared(readers, range(num * arguments.rounds), size):
                print(f"{kind:>14} {slow:8.2f} {name:>10} {fast:7.2f} {times:6.2f}", flush=True)


if __name__ == "__main__":
    main()
