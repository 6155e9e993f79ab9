"""Flow of motion that is known, and its bytes."""

import zlib

import numpy as np
import pytest

from pipeline.data.flow import optical_flow, pack, pack_flow, unpack


def blob(x, y, size=64):
    """A soft disk at a place of a grey frame: (S, S, 3) uint8."""
    down, right = np.mgrid[:size, :size]
    level = 60 + 180 * np.exp(-((right - x) ** 2 + (down - y) ** 2) / 72)
    return np.repeat(level[..., None], 3, axis=2).astype(np.uint8)


@pytest.mark.parametrize("estimator", ["dis", "farneback"])
def test_what_moves_right_and_up_has_that_flow(estimator):
    frames = np.stack([blob(24 + 2 * time, 36 - time) for time in range(4)])
    flow = optical_flow(frames, estimator)
    assert flow.shape == (3, 2, 64, 64) and flow.dtype == np.float32
    middle = np.stack([flow[time, :, 36 - time, 24 + 2 * time] for time in range(3)])
    assert middle == pytest.approx(np.tile([2.0, -1.0], (3, 1)), abs=0.5)


@pytest.mark.parametrize("estimator", ["dis", "farneback"])
def test_a_still_clip_has_none(estimator):
    still = np.repeat(blob(30, 30)[None], 3, axis=0)
    assert np.abs(optical_flow(still, estimator)).max() < 0.01


def test_another_estimator():
    with pytest.raises(ValueError, match="flow is 'raft'; available: dis, farneback"):
        optical_flow(np.zeros((2, 16, 16, 3), np.uint8), "raft")


def test_bytes_keep_steps_and_cut_what_is_beyond_the_bound():
    flow = np.array([[[[0.0, 1.0]], [[-9.0, 4.0]]]], np.float32)  # (1, 2, 1, 2)
    steps = unpack(pack_flow(flow, 4.0), flow.shape, np.int8)
    assert steps.tolist() == [[[[0, 32]], [[-127, 127]]]]


def test_bytes_of_another_length_are_refused():
    data = pack(np.zeros(10, np.int8))
    for broken, told in ((zlib.compress(b"0" * 11), "other than the 10 bytes"), (data[:4], "other than the 10 bytes"),
                         (b"no zlib", "cannot be decompressed")):  # fmt: skip
        with pytest.raises(ValueError, match=told):
            unpack(broken, (10,), np.int8)
