"""Which settings make a cell what it is; the others say how fast, and with what memory, the same result comes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# The last bits of a compiled step are others, as those of another device or of more of them are.
FREE = frozenset({"num_workers", "checkpoint_every", "log_every", "activation_checkpointing", "compile"})


def identity(settings: Mapping[str, Any], *, per_sample: bool) -> dict[str, Any]:
    """The settings that decide a result.

    Args:
        settings: of a cell, now or as its manifest tells them.
        per_sample: whether a step's loss is the mean over samples that know nothing of one another, so that
            micro-batches leave it as it is; with `drop_path` they do not, since each draws anew which blocks to skip.
    """
    train = settings.get("train") or {}
    free = FREE | {"accumulate"} if per_sample and not train.get("drop_path") else FREE

    def decisive(part: Any) -> Any:
        if not isinstance(part, Mapping):
            return part
        return {key: decisive(value) for key, value in part.items() if key not in free}

    return dict(decisive(settings))
