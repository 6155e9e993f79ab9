"""Encoders of labelled texts: an attentive typer of mentions, a convolutional network and a bidirectional LSTM.

The typer is that of Shimaoka et al., "Neural Architectures for Fine-grained Entity Type Classification", EACL 2017,
arXiv:1606.01341, and its released code, without hand-made features. B texts, T tokens of a window, W width of a word,
H of a direction of the LSTM, D features.

Departures: words are learned rather than fixed GloVe vectors, and a token's role (left, mention, right) is added to it
where the network would not know it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NUM_ROLES = 4  # none, left of the mention, in it, right of it


class Words(nn.Module):
    """(B, 2, T) ids and roles -> (B, T, W), zeros where there is no token."""

    def __init__(self, num_words: int, width: int, roles: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(num_words, width, padding_idx=0)
        self.roles = nn.Embedding(NUM_ROLES, width, padding_idx=0) if roles else None

    def forward(self, text: Tensor) -> Tensor:
        words, roles = text.unbind(1)
        found = self.table(words)
        return found if self.roles is None else found + self.roles(roles)


class AttentiveTyper(nn.Module):
    """Mean of the mention's words beside a weighted sum of the LSTMs' outputs on either side.

    D = W + 2 H; the sides have LSTMs of their own and share the attention.
    """

    def __init__(self, num_words: int, word_width: int, width: int, context: int, dropout: float) -> None:
        super().__init__()
        self.words = Words(num_words, word_width, roles=False)
        self.left, self.right = (nn.LSTM(word_width, width, batch_first=True, bidirectional=True) for _ in range(2))
        self.hidden, self.score = nn.Linear(2 * width, width, bias=False), nn.Linear(width, 1, bias=False)
        self.context, self.dropout, self.embed_dim = context, nn.Dropout(dropout), word_width + 2 * width

    def forward_features(self, text: Tensor) -> Tensor:
        """(B, 2, T) -> (B, D).

        Raises:
            ValueError: the window is not wider than both contexts.
        """
        size = self.context
        if text.shape[2] <= 2 * size:
            raise ValueError(f"the window has {text.shape[2]} tokens; this encoder takes {size} on either side of a "
                             f"mention: text.context is to be {size}")  # fmt: skip
        words, there = self.words(text), text[:, 1] > 0
        sides = torch.cat([recur(self.left, words[:, :size]), recur(self.right, words[:, -size:])], dim=1)
        seen = torch.cat([there[:, :size], there[:, -size:]], dim=1)
        scores = self.score(self.hidden(sides).tanh())[..., 0].float().masked_fill(~seen, -1e4)
        context = (scores.softmax(dim=1) * seen)[..., None] * sides
        inside = there[:, size:-size]
        mention = words[:, size:-size].sum(dim=1) / inside.sum(dim=1, keepdim=True).clamp(min=1)
        return torch.cat([self.dropout(mention), context.sum(dim=1)], dim=1)

    forward = forward_features


class TextCNN(nn.Module):
    """The largest answer of each filter anywhere in the text (Kim 2014, arXiv:1408.5882); D filters in all."""

    def __init__(
        self, num_words: int, word_width: int, width: int, kernel_sizes: Sequence[int], dropout: float
    ) -> None:
        super().__init__()
        self.words = Words(num_words, word_width, roles=True)
        self.filters = nn.ModuleList(nn.Conv1d(word_width, width, size, padding=size // 2) for size in kernel_sizes)
        self.dropout, self.embed_dim = nn.Dropout(dropout), width * len(kernel_sizes)

    def forward_features(self, text: Tensor) -> Tensor:
        """(B, 2, T) -> (B, D)."""
        words = self.words(text).transpose(1, 2)
        return self.dropout(torch.cat([F.relu(filters(words)).amax(dim=2) for filters in self.filters], dim=1))

    forward = forward_features


class BiLSTM(nn.Module):
    """The largest of each output of a bidirectional LSTM over the tokens there are; D = 2 H."""

    def __init__(self, num_words: int, word_width: int, width: int, dropout: float) -> None:
        super().__init__()
        self.words = Words(num_words, word_width, roles=True)
        self.lstm = nn.LSTM(word_width, width, batch_first=True, bidirectional=True)
        self.dropout, self.embed_dim = nn.Dropout(dropout), 2 * width

    def forward_features(self, text: Tensor) -> Tensor:
        """(B, 2, T) -> (B, D)."""
        outputs = recur(self.lstm, self.words(text))
        return self.dropout(outputs.masked_fill(text[:, 1, :, None] == 0, -1.0).amax(dim=1))

    forward = forward_features


def recur(lstm: nn.LSTM, words: Tensor) -> Tensor:
    """(B, T, W) -> (B, T, 2 H) in float32: oneDNN has LSTMs of half precision on few CPUs only."""
    with torch.autocast(words.device.type, enabled=False):
        return lstm(words.float())[0]


NETWORKS = {"attentive": AttentiveTyper, "cnn": TextCNN, "bilstm": BiLSTM}


def build(size: Mapping[str, Any]) -> nn.Module:
    """An encoder of the given sizes."""
    network = NETWORKS[size["network"]]
    return network(**{name: value for name, value in size.items() if name not in ("family", "network")})


def fit_positions(state: dict[str, Tensor], encoder: nn.Module) -> dict[str, Tensor]:
    """These encoders have no positions."""
    return state
