import torch

from pipeline.nn.patches import patchify, unpatchify


def test_patches_are_row_column_channel():
    images = torch.arange(2 * 3 * 4 * 6, dtype=torch.float32).reshape(2, 3, 4, 6)
    patches = patchify(images, 2)
    assert patches.shape == (2, 6, 12)
    for patch in range(6):
        row, column = divmod(patch, 3)
        for r in range(2):
            for c in range(2):
                for channel in range(3):
                    value = patches[1, patch, (r * 2 + c) * 3 + channel]
                    assert value == images[1, channel, 2 * row + r, 2 * column + c]


def test_unpatchify_is_the_inverse():
    images = torch.randn(2, 3, 8, 12)
    assert torch.equal(unpatchify(patchify(images, 4), (2, 3)), images)
