"""Captions as WordPiece tokens: the vocabulary is a file of one token a line, read by the `tokenizers` library.

Wu et al. 2016 (arXiv:1609.08144), with the lower-casing and splitting of BERT (Devlin et al. 2019, arXiv:1810.04805).
T tokens of a text, at most; a shorter text is filled up with padding.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from pipeline.config import ConfigError

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
NAME = "vocab.txt"
WHERE = "Expected: one token a line, as in the vocab.txt of bert-base-uncased"


class WordPiece:
    """A tokeniser, without a token at either end of a text.

    Args:
        path: of the vocabulary.

    Raises:
        ConfigError: there is none, or it lacks special tokens, repeats one or is no text.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.vocabulary = read_vocabulary(self.path)
        ids = {token: place for place, token in enumerate(self.vocabulary)}
        self.padding = ids[SPECIAL[0]]
        self._tokenizer = build(ids)

    def __len__(self) -> int:
        return len(self.vocabulary)

    def ids(self, text: str) -> list[int]:
        """All tokens of a text; none where it has no words."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def encode(self, texts: Sequence[str], length: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens (N, T) int64, and (N, T) bool, True where there are none."""
        ids = np.full((len(texts), length), self.padding, np.int64)
        padding = np.ones((len(texts), length), bool)
        for row, text in enumerate(texts):
            known = self.ids(text)[:length]
            ids[row, : len(known)], padding[row, : len(known)] = known, False
        return ids, padding

    def words(self, ids: Iterable[int]) -> list[str]:
        """Tokens by name.

        Raises:
            ValueError: one is out of range.
        """
        ids = list(ids)
        wrong = [number for number in ids if not 0 <= number < len(self)]
        if wrong:
            raise ValueError(f"token {wrong[0]} is out of range; the vocabulary {self.path} has {len(self)} tokens")
        return [self.vocabulary[number] for number in ids]


def read_vocabulary(path: Path) -> list[str]:
    """The tokens of a vocabulary, in order."""
    if not path.is_file():
        raise ConfigError(f"vocabulary is {str(path)!r}, and there is no such file. {WHERE}")
    try:
        tokens = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")  # not at every separator Unicode has
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is no UTF-8 text ({error}). {WHERE}") from None
    lacking = [token for token in SPECIAL if token not in tokens]
    if lacking:
        raise ConfigError(f"{path} has {len(tokens)} tokens and lacks {', '.join(lacking)}. {WHERE}")
    if len(set(tokens)) < len(tokens):
        twice = [token for token, count in Counter(tokens).items() if count > 1]
        raise ConfigError(f"{path} has {twice[0]!r} more than once. {WHERE}")
    return tokens


def build(ids: dict[str, int]) -> Tokenizer:
    """The library's tokeniser of a vocabulary."""
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token=SPECIAL[1]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def learn_vocabulary(texts: Iterable[str], size: int) -> list[str]:
    """A vocabulary of some texts: special tokens, their characters, then their most frequent words.

    Not by the library's trainer, whose ties fall as a hash table is ordered: it gives another one in each process.

    Raises:
        ConfigError: the texts have fewer, or their characters alone are more.
    """
    split = build({token: place for place, token in enumerate(SPECIAL)})
    counts: Counter[str] = Counter()
    for text in texts:
        normal = split.normalizer.normalize_str(text)
        counts.update(word for word, _ in split.pre_tokenizer.pre_tokenize_str(normal))
    first = sorted({character for word in counts for character in word})
    later = sorted({f"##{character}" for word in counts for character in word[1:]})
    words = sorted((word for word in counts if len(word) > 1), key=lambda word: (-counts[word], word))
    whole = [*SPECIAL, *first, *later, *words]
    smallest = len(whole) - len(words)
    if not smallest <= size <= len(whole):
        raise ConfigError(
            f"vocabulary_size is {size}; expected {smallest}, all characters of the captions, to {len(whole)}, all "
            "words"
        )
    return whole[:size]
