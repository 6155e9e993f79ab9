"""Message passing between the nodes of graphs: sums, softmax and maxima over the links of a node.

S sources, T targets, M links (source, target), D width, H heads.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def sum_over(values: Tensor, target: Tensor, count: int) -> Tensor:
    """Sums of (M, ...) values over the links of each target: (T, ...), zero where there is none."""
    return values.new_zeros(count, *values.shape[1:]).index_add(0, target, values)


def max_over(values: Tensor, target: Tensor, count: int) -> Tensor:
    """Maxima likewise, (M, D) -> (T, D)."""
    places = target[:, None].expand_as(values)
    return values.new_zeros(count, values.shape[1]).scatter_reduce(0, places, values, "amax", include_self=False)


def softmax_over(scores: Tensor, target: Tensor, count: int) -> Tensor:
    """Softmax of (M, H) scores among the links of each target."""
    largest = max_over(scores.detach(), target, count)
    weights = (scores - largest[target]).exp()
    return weights / sum_over(weights, target, count)[target]


class AttentionConv(nn.Module):
    """Graph attention with features of links (You, Ying and Leskovec, "Design Space for Graph Neural Networks", NeurIPS
    2020, arXiv:2011.08843): additive attention, sums over links, the mean of the heads, and a learned skip.

    m = W_m x_j + W_a a_ij, α = softmax_j(leaky ReLU(⟨attention, m⟩)), out_i = mean_h Σ_j α m + W_s x_i.

    Args:
        source, target, link: widths of what comes in.
        width: D. heads: H.
    """

    def __init__(self, source: int, target: int, link: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.width = heads, width
        self.message, self.link = nn.Linear(source, heads * width), nn.Linear(link, heads * width)
        self.skip = nn.Linear(target, width)
        self.attention = nn.Parameter(torch.empty(1, heads, width))
        nn.init.xavier_uniform_(self.attention)

    def forward(self, sources: Tensor, targets: Tensor, links: Tensor, features: Tensor) -> Tensor:
        """(S, ·), (T, ·), (M, 2) and (M, ·) -> (T, D)."""
        start, end = links.unbind(1)
        messages = (self.message(sources)[start] + self.link(features)).unflatten(1, (self.heads, self.width))
        scores = F.leaky_relu((messages * self.attention).sum(dim=2), 0.2)
        weights = softmax_over(scores, end, len(targets))
        return sum_over((weights[..., None] * messages).mean(dim=1), end, len(targets)) + self.skip(targets)


class MaxRelativeConv(nn.Module):
    """Residual max-relative convolution (Li et al., "DeepGCNs", ICCV 2019, arXiv:1904.03751).

    y_i = x_i + leaky ReLU(W [x_i ; max_j (x_i - x_j)] + b), the maximum being 0 where a node has no links.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.map = nn.Linear(2 * width, width)

    def forward(self, sources: Tensor, targets: Tensor, links: Tensor) -> Tensor:
        """(S, D), (T, D) and (M, 2) -> (T, D)."""
        start, end = links.unbind(1)
        differences = max_over(targets[end] - sources[start], end, len(targets))
        return targets + F.leaky_relu(self.map(torch.cat([targets, differences], dim=1)))
