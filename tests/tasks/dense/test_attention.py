import pytest
import torch
from timm.layers import Attention

from pipeline.config import ConfigError
from pipeline.tasks.dense.attention import MapAttention, join_windows, split_windows

GRID, WIDTH, HEADS = (5, 7), 16, 2


def make(relative: str = "none", window_size: int | None = None, num_prefix: int = 0) -> MapAttention:
    torch.manual_seed(0)
    attention = Attention(WIDTH, num_heads=HEADS, qkv_bias=True)
    return MapAttention(
        attention, window_size=window_size, relative=relative, grid_size=7, num_prefix=num_prefix
    ).eval()


def tokens(num_prefix: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, num_prefix + GRID[0] * GRID[1], WIDTH, generator=generator)


@pytest.mark.parametrize("relative", ["none", "bias", "decomposed"])
def test_over_the_whole_map_it_is_plain_attention(relative: str) -> None:
    module = make(relative)
    torch.testing.assert_close(module(tokens(), GRID), module.attention(tokens()), atol=1e-6, rtol=1e-5)


def test_a_class_token_changes_nothing_either() -> None:
    module = make("bias", num_prefix=1)
    torch.testing.assert_close(module(tokens(1), GRID), module.attention(tokens(1)), atol=1e-6, rtol=1e-5)


def test_windows_are_attention_within_each_window_and_its_filling() -> None:
    module, side = make(window_size=3), 3
    maps = tokens().unflatten(1, GRID)
    expected = torch.zeros_like(maps)
    for top in range(0, GRID[0], side):
        for left in range(0, GRID[1], side):
            part = maps[:, top : top + side, left : left + side]
            filled = torch.zeros(2, side, side, WIDTH)
            filled[:, : part.shape[1], : part.shape[2]] = part
            out = module.attention(filled.flatten(1, 2)).unflatten(1, (side, side))
            expected[:, top : top + side, left : left + side] = out[:, : part.shape[1], : part.shape[2]]
    torch.testing.assert_close(module(tokens(), GRID), expected.flatten(1, 2), atol=1e-6, rtol=1e-5)


def test_windows_come_together_again() -> None:
    maps = tokens().unflatten(1, GRID)
    windows = split_windows(maps, 4)
    assert windows.shape == (2 * 2 * 2, 16, WIDTH)
    assert torch.equal(join_windows(windows, 4, GRID), maps)


def logits_slowly(module: MapAttention, q: torch.Tensor) -> torch.Tensor:
    """The bias of each pair of patches, one by one."""
    places = [(row, column) for row in range(GRID[0]) for column in range(GRID[1])]
    bias = torch.zeros(len(q), HEADS, len(places), len(places))
    for i, (row, column) in enumerate(places):
        for j, (other_row, other_column) in enumerate(places):
            down, across = row - other_row, column - other_column
            if hasattr(module.relative, "table"):
                bias[:, :, i, j] = module.relative.table[:, down + 6, across + 6]
            else:
                vertical = module.relative.rows[down + GRID[0] - 1]
                horizontal = module.relative.columns[across + GRID[1] - 1]
                bias[:, :, i, j] = q[:, :, i] @ vertical + q[:, :, i] @ horizontal
    return bias


def test_bias_is_looked_up_by_displacement() -> None:
    module = make("bias")
    torch.nn.init.normal_(module.relative.table)
    q = torch.randn(1, HEADS, GRID[0] * GRID[1], WIDTH // HEADS)
    torch.testing.assert_close(module.relative(q, GRID)[None], logits_slowly(module, q))


def test_decomposed_positions_are_products_with_the_query() -> None:
    module = MapAttention(
        Attention(WIDTH, num_heads=HEADS), window_size=None, relative="decomposed", grid_size=5, num_prefix=0
    )
    # The horizontal table is for five patches; seven are wanted, so give it the size that needs no resizing.
    module.relative.columns = torch.nn.Parameter(torch.zeros(13, WIDTH // HEADS))
    for table in module.relative.parameters():
        torch.nn.init.normal_(table)
    q = torch.randn(2, HEADS, GRID[0] * GRID[1], WIDTH // HEADS)
    torch.testing.assert_close(module.relative(q, GRID), logits_slowly(module, q), atol=1e-5, rtol=1e-5)


def test_class_token_has_its_own_three_biases() -> None:
    module = make("bias", num_prefix=1)
    module.relative.prefix.data[:] = torch.tensor([1.0, 2.0, 3.0])
    bias = module.relative(torch.zeros(1, HEADS, 36, 8), GRID)
    assert bias.shape == (HEADS, 36, 36)
    assert (bias[:, 0, 1:] == 1).all() and (bias[:, 1:, 0] == 2).all() and (bias[:, 0, 0] == 3).all()
    assert (bias[:, 1:, 1:] == 0).all()


@pytest.mark.parametrize("relative", ["bias", "decomposed"])
def test_relative_positions_learn_from_zero(relative: str) -> None:
    module = make(relative)
    module(tokens(), GRID).square().sum().backward()
    for parameter in module.relative.parameters():
        assert parameter.abs().max() == 0 and parameter.grad.abs().max() > 0


def test_other_grids_are_taken() -> None:
    for relative in ("bias", "decomposed"):
        assert make(relative)(torch.randn(1, 9 * 11, WIDTH), (9, 11)).shape == (1, 99, WIDTH)


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match="relative is 'rotary'; expected one of"):
        make("rotary")
    with pytest.raises(ConfigError, match="class_token: false"):
        make(window_size=3, num_prefix=1)
