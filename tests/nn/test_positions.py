import math

import pytest
import torch

from pipeline.nn.positions import resize_table, sincos_table


# Sums of all entries of the authors' tables, computed from their published formula.
@pytest.mark.parametrize(
    ("width", "side", "total", "squares"),
    [
        (768, 14, 69594.4939, 75264),
        (1024, 14, 92849.1979, 100352),
        (1280, 16, 149578.4058, 163840),
        (512, 14, 46340.3331, 50176),
        (512, 16, 59700.6785, 65536),
    ],
)
def test_table_has_the_sums_of_the_authors(width, side, total, squares):
    table = sincos_table(width, side, side).double()
    assert table.sum().item() == pytest.approx(total, abs=1e-3)
    assert (table**2).sum().item() == pytest.approx(squares, abs=1e-3)


def test_first_half_tells_the_column():
    table = sincos_table(768, 14, 14)[0]
    assert table[0].abs().max() == 0  # the class token's row
    assert table[2, 0].item() == pytest.approx(math.sin(1), abs=1e-6)  # row 0, column 1
    assert table[15, 384].item() == pytest.approx(math.sin(1), abs=1e-6)  # row 1, column 0


def test_table_equals_a_slow_one():
    width, rows, columns = 16, 2, 3
    table = sincos_table(width, rows, columns)[0]
    for row in range(rows):
        for column in range(columns):
            for k in range(width // 4):
                omega = 10000 ** (-k / (width / 4))
                got = table[1 + row * columns + column]
                expected = [f(p * omega) for p in (column, row) for f in (math.sin, math.cos)]
                for part, value in enumerate(expected):
                    assert got[part * width // 4 + k].item() == pytest.approx(value, abs=1e-6)


def test_width_must_hold_four_parts():
    with pytest.raises(ValueError, match="width is 30; expected a multiple of 4"):
        sincos_table(30, 2, 2)


def test_resize_is_bicubic_on_patches_only():
    table = torch.randn(1, 1 + 16, 8)
    resized = resize_table(table, 6, 5)
    assert resized.shape == (1, 1 + 30, 8)
    assert torch.equal(resized[:, 0], table[:, 0])
    grid = table[0, 1:, 3].reshape(1, 1, 4, 4)
    expected = torch.nn.functional.interpolate(grid, size=(6, 5), mode="bicubic", align_corners=False)
    assert torch.allclose(resized[0, 1:, 3], expected.flatten(), atol=1e-6)


def test_resize_to_the_same_grid_changes_nothing():
    table = torch.randn(1, 17, 8)
    assert torch.equal(resize_table(table, 4, 4), table)


def test_resize_refuses_what_is_no_square():
    with pytest.raises(ValueError, match="12 patches; expected a square number"):
        resize_table(torch.zeros(1, 13, 8), 4, 4)
