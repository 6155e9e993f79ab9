"""Dense optical flow between neighbouring frames, by OpenCV, stored as bytes.

Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016, arXiv:1603.03590 (`dis`); Farnebäck,
"Two-Frame Motion Estimation Based on Polynomial Expansion", SCIA 2003 (`farneback`). T frames of H by W pixels.
"""

import zlib
from itertools import pairwise

import cv2
import numpy as np

LEVELS = 127  # of a byte on either side of zero
STILL = 0.05  # pixels: what moves less in every frame stands still


def optical_flow(frames: np.ndarray, estimator: str) -> np.ndarray:
    """The motion from each frame to the next.

    Args:
        frames: (T, H, W, 3) uint8, RGB, of which there are two or more.
        estimator: `dis` or `farneback`.

    Returns:
        (T - 1, 2, H, W) float32, pixels to the right and down.
    """
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    if estimator == "dis":
        search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        flows = [search.calc(before, after, None) for before, after in pairwise(grey)]
    elif estimator == "farneback":
        flows = [
            cv2.calcOpticalFlowFarneback(before, after, None, 0.5, 3, 9, 3, 5, 1.1, 0)
            for before, after in pairwise(grey)
        ]
    else:
        raise ValueError(f"flow is {estimator!r}; available: dis, farneback")
    return np.stack(flows).transpose(0, 3, 1, 2)


def pack_flow(flow: np.ndarray, bound: float) -> bytes:
    """Flow in steps of bound / 127, what is beyond ± bound pixels cut to it, compressed."""
    steps = np.clip(np.rint(flow * (LEVELS / bound)), -LEVELS, LEVELS).astype(np.int8)
    return pack(steps)


def pack(values: np.ndarray) -> bytes:
    """An array's values, compressed without loss."""
    return zlib.compress(np.ascontiguousarray(values).tobytes(), 6)


def unpack(data: bytes, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """The inverse of `pack`, never more than the shape says.

    Raises:
        ValueError: the bytes hold something else.
    """
    expected = int(np.prod(shape)) * np.dtype(dtype).itemsize
    try:
        values = zlib.decompressobj().decompress(data, expected + 1)
    except zlib.error as error:
        raise ValueError(f"it cannot be decompressed ({error})") from None
    if len(values) != expected:
        raise ValueError(f"it holds other than the {expected} bytes of shape {shape}")
    return np.frombuffer(values, dtype).reshape(shape)
