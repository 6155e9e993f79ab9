"""timm's augmentation policies, of images and of clips; what they draw is a function of (seed, epoch, index) alone.

B images of H by W pixels, T frames of a clip, S the size that comes out. timm takes seconds to import, so that is done
where it is used: every stage that reads images imports this module, and few of them augment by policies.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipeline.data.draws import AUGMENT, ERASE, Seed, bits
from pipeline.data.operations import on_arrays
from pipeline.data.transforms import MEAN, STD, Decode, normalise_, read_box, resize

Cut = Callable[[Sequence[int], int, str], Tensor]  # box, size and kernel → (3, S, S) uint8


class AutoAugmented:
    """timm's augmentation for fine-tuning (crop, flip, RandAugment, random erasing), seeded per sample.

    Args:
        image_size: S.
        scale, ratio: of the crop, as in `RandomCrop`.
        policy: timm's name of the policy, such as `rand-m9-mstd0.5-inc1`; None for none.
        erase_ratio: probability that a rectangle is filled with noise, per pixel.
    """

    def __init__(
        self,
        image_size: int,
        scale: tuple[float, float],
        ratio: tuple[float, float],
        policy: str | None,
        erase_ratio: float,
        flip: bool = True,
    ) -> None:
        from timm.data import create_transform

        self.image_size = image_size
        geometry, policies, ending = create_transform(
            input_size=image_size,
            is_training=True,
            scale=scale,
            ratio=ratio,
            hflip=0.5 if flip else 0.0,
            color_jitter=None,
            auto_augment=policy,
            interpolation="bicubic",
            re_prob=erase_ratio,
            re_mode="pixel",
            re_count=1,
            mean=MEAN,
            std=STD,
            separate=True,
        )
        self._crop, *self._flip = geometry.transforms
        self._policies = [on_arrays(policy) for policy in policies.transforms]
        self._erase = ending.transforms[2:]  # after two that make tensors and normalise

    def batch(self, images: Tensor, seed: Seed, epochs: Tensor, indices: Tensor) -> Tensor:
        sizes = torch.tensor(images.shape[2:]).expand(len(images), 2)
        return self._changed([partial(resize, image) for image in images], sizes, seed, epochs, indices)

    def read(self, decode: Decode, sizes: Tensor, seed: Seed, epochs: Tensor, indices: Tensor) -> Tensor:
        cuts = [partial(read_box, decode, index) for index in indices.tolist()]
        return self._changed(cuts, sizes, seed, epochs, indices)

    def _changed(self, cuts: Sequence[Cut], sizes: Tensor, seed: Seed, epochs: Tensor, indices: Tensor) -> Tensor:
        """(B, 3, S, S) uint8, or normalised where rectangles may be filled with noise; drawn in timm's order."""
        size = self.image_size
        changed = torch.empty(len(cuts), 3, size, size, dtype=torch.float32 if self._erase else torch.uint8)
        keys = bits(seed, epochs, indices, AUGMENT).tolist()
        with _generators_kept():
            for image, cut, sides, key in zip(changed, cuts, sizes.tolist(), keys, strict=True):
                _seed(key)
                box = self._crop.get_params(_shaped(*sides), self._crop.scale, self._crop.ratio)
                pixels = cut(box, size, "bicubic").permute(1, 2, 0).contiguous().numpy()
                for flip in self._flip:
                    pixels = cv2.flip(pixels, 1) if torch.rand(1) < flip.p else pixels
                for policy in self._policies:
                    pixels = policy(pixels)
                for channel, levels in zip(image, cv2.split(pixels), strict=True):
                    channel.copy_(torch.from_numpy(levels))
                for erase in self._erase:
                    erase(normalise_(image))
        return changed


class FramesAugmented:
    """RandAugment and random erasing of clips as in PySlowFast: what is drawn holds for all frames of a clip.

    Operations, their strengths and directions are drawn once, before the crop; after it one rectangle is erased, with
    noise that is another in each frame.

    Args:
        policy: timm's name of a policy that draws from operations, such as `rand-m7-mstd0.5-inc1`; None for none.
        erase_ratio: probability that a clip's rectangle is erased.

    Raises:
        ValueError: the policy is of another kind.
    """

    def __init__(self, policy: str | None, erase_ratio: float) -> None:
        from timm.data.auto_augment import rand_augment_transform
        from timm.data.random_erasing import RandomErasing

        self._augment = None
        if policy is not None:
            if not policy.startswith("rand-"):
                raise ValueError(f"policy is {policy!r}; expected one of RandAugment, such as 'rand-m7-mstd0.5-inc1'")
            # What moves out of the picture leaves grey, as where no mean is named.
            self._augment = on_arrays(rand_augment_transform(policy, {"interpolation": Image.Resampling.BICUBIC}))
        self._erase = RandomErasing(erase_ratio, mode="pixel", max_count=1, device="cpu")

    def frames(self, pixels: Tensor, seed: int, epoch: int, index: int) -> Tensor:
        """(T, 3, H, W) uint8 frames as they were decoded -> the same."""
        if self._augment is None:
            return pixels
        changed = []
        with _generators_kept():
            for frame in pixels.permute(0, 2, 3, 1).numpy():
                _seed(int(bits(seed, epoch, index, AUGMENT)))  # again for each frame: so that it draws the same
                changed.append(self._augment(np.ascontiguousarray(frame)))
        return torch.from_numpy(np.stack(changed)).permute(0, 3, 1, 2)

    def erased(self, video: Tensor, seed: int, epoch: int, index: int) -> Tensor:
        """(3, T, S, S) normalised -> the same."""
        if not self._erase.probability:
            return video
        with _generators_kept():
            _seed(int(bits(seed, epoch, index, ERASE)))
            # Frames as channels: they share the rectangle, not the noise.
            return self._erase(video.flatten(0, 1)).view_as(video)


@lru_cache
def _shaped(height: int, width: int) -> Tensor:
    """An image without pixels."""
    return torch.empty(3, height, width, device="meta")


def _seed(key: int) -> None:
    """Seeds Python's, NumPy's and torch's (CPU) generators, on which timm draws."""
    key &= 2**63 - 1
    random.seed(key)
    np.random.seed(key % 2**32)
    # Not torch.manual_seed: that would seed the accelerators' generators as well, which nobody restores.
    torch.default_generator.manual_seed(key)


@contextmanager
def _generators_kept() -> Iterator[None]:
    """Leaves Python's, NumPy's and torch's (CPU) generators as it found them."""
    states = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.default_generator.set_state(states[2])
