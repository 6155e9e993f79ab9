"""What a policy draws of a clip holds for all of its frames; a slow rewrite of PySlowFast's order of draws agrees."""

import math
import random

import numpy as np
import pytest
import torch
from timm.data.auto_augment import LEVEL_TO_ARG, NAME_TO_OP

from pipeline.data import operations
from pipeline.data.draws import AUGMENT, bits
from pipeline.data.policies import FramesAugmented

POLICY = "rand-m7-mstd0.5-inc1"
# PySlowFast's operations of growing strength, in its order.
OPERATIONS = ("AutoContrast", "Equalize", "Invert", "Rotate", "PosterizeIncreasing", "SolarizeIncreasing",
              "SolarizeAdd", "ColorIncreasing", "ContrastIncreasing", "BrightnessIncreasing", "SharpnessIncreasing",
              "ShearX", "ShearY", "TranslateXRel", "TranslateYRel")  # fmt: skip


@pytest.fixture(scope="module")
def clip():
    """(T, 3, H, W) uint8: a soft pattern that moves."""
    y, x = np.mgrid[:20, :28]
    frames = [128 + 90 * np.sin((x + 2 * t) / 5) * np.cos(y / 4) for t in range(4)]
    return torch.from_numpy(np.stack([np.stack([f, f[::-1], 255 - f]) for f in frames]).astype(np.uint8))


def slowly(clip, key):
    """Operation after operation on the list of frames, each with the strength that was drawn for it once."""
    random.seed(key)
    np.random.seed(key % 2**32)
    frames = [np.ascontiguousarray(frame) for frame in clip.permute(0, 2, 3, 1).numpy()]
    for name in np.random.choice(OPERATIONS, 2, replace=True):
        if random.random() > 0.5:
            continue
        strength = min(10.0, max(0.0, random.gauss(7, 0.5)))
        level = LEVEL_TO_ARG[name]
        arguments = () if level is None else level(strength, {})
        operation = operations.OPERATIONS[NAME_TO_OP[name].__name__]
        frames = [operation(frame, *arguments, fillcolor=(128, 128, 128)) for frame in frames]
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)


def test_randaugment_draws_once_for_all_frames(clip):
    policy, changed = FramesAugmented(POLICY, 0.0), 0
    for index in range(300):
        found = policy.frames(clip, 3, 5, index)
        key = int(bits(3, 5, index, AUGMENT)) & (2**63 - 1)
        assert torch.equal(found, slowly(clip, key)), index
        changed += not torch.equal(found, clip)
    assert 0.65 < changed / 300 < 0.8, "three clips in four: each of two operations takes place half of the time"


def test_draws_are_those_of_the_sample_and_leave_no_trace(clip):
    policy = FramesAugmented(POLICY, 1.0)
    torch.manual_seed(1), random.seed(1), np.random.seed(1)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    video = torch.zeros(3, 4, 16, 16)
    one = [policy.frames(clip, 0, 1, index) for index in range(20)], policy.erased(video.clone(), 0, 1, 2)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), np.random.get_state()[1].tolist())
    random.seed(9), np.random.seed(9), torch.manual_seed(9)
    again = [policy.frames(clip, 0, 1, index) for index in range(20)], policy.erased(video.clone(), 0, 1, 2)
    assert all(map(torch.equal, one[0], again[0])) and torch.equal(one[1], again[1])
    other = [policy.frames(clip, 0, 2, index) for index in range(20)]
    assert not all(map(torch.equal, one[0], other))
    assert not torch.equal(one[1], policy.erased(video.clone(), 0, 2, 2))


def test_a_rectangle_is_erased_in_all_frames_alike(clip):
    policy, erased, shares, noise = FramesAugmented(None, 0.25), 0, [], []
    assert policy.frames(clip, 0, 0, 0) is clip
    for index in range(2000):
        video = policy.erased(torch.full((3, 4, 24, 24), 7.0), 0, 0, index)
        gone = video != 7.0
        if not gone.any():
            continue
        erased += 1
        assert (gone == gone[:1, :1]).all(), "one rectangle for all channels and frames"
        rows, columns = gone[0, 0].any(1).sum(), gone[0, 0].any(0).sum()
        assert gone[0, 0].sum() == rows * columns
        shares.append(float(gone[0, 0].float().mean()))
        noise.append(video[gone])
        assert not torch.equal(video[:, 0], video[:, 1]), "noise of its own in each frame"
    assert abs(erased / 2000 - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 2000)
    assert min(shares) > 0.01 and 0.3 < max(shares) < 0.37 and abs(np.mean(shares) - (0.02 + 1 / 3) / 2) < 0.02
    assert abs(float(torch.cat(noise).std()) - 1) < 0.01
    plain = torch.ones(3, 4, 24, 24)
    assert FramesAugmented(None, 0.0).erased(plain, 0, 0, 0) is plain


def test_other_policies_are_refused():
    with pytest.raises(ValueError, match="policy is 'v0'; expected one of RandAugment, such as 'rand-m7"):
        FramesAugmented("v0", 0.0)
