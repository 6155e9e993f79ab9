"""Floating-point operations of a training step, counted without its memory."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

FEW = 2  # samples of a real pass: BatchNorm needs two
# Attention on CPUs, for which PyTorch's counter has no formula; its backward pass has four products for two.
ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda grad, q, k, v, *_, **__: (
        2 * sdpa_flop_count(q, k, v)
    ),
}


def count_flops(model: nn.Module, batch: Any) -> float:
    """Operations of one micro-batch's forward and backward pass, nothing computed twice.

    They are counted on the meta device, where tensors have shapes and no memory. What looks at values, as detection
    does at its boxes, really runs, on the first samples where a batch can be cut. All processes call it, since a step
    may hold collectives; the model is left as it was, its gradients none.

    Args:
        model: an MMEngine model, not wrapped.
        batch: as the loader gives it.
    """
    model.train()
    state = torch.random.get_rng_state()
    try:
        return _on_meta(model, batch)
    except Exception:  # of whatever kind: a mistake of the model's own shows again for real
        return _for_real(model, batch)
    finally:
        torch.random.set_rng_state(state)


def _on_meta(model: nn.Module, batch: Any) -> float:
    data = tree_map_only(Tensor, lambda value: value.to("meta"), model.data_preprocessor(batch, training=True))
    parts: dict[str, Tensor] = {}
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        parts[name] = torch.empty_like(value, device="meta").requires_grad_(value.requires_grad)
    with FlopCounterMode(display=False) as count:
        losses = functional_call(model, parts, kwargs={**data, "mode": "loss"})
        model.parse_losses(losses)[0].backward()
    return count.get_total_flops()


def _for_real(model: nn.Module, batch: Any) -> float:
    batch, factor = _few(batch)
    # Running statistics and queues are put back.
    buffers = [(part, {name: buffer.clone() for name, buffer in part.named_buffers(recurse=False)})
               for part in model.modules()]  # fmt: skip
    with FlopCounterMode(display=False, custom_mapping=ATTENTION) as count:
        losses = model._run_forward(model.data_preprocessor(batch, training=True), mode="loss")  # type: ignore[operator]
        model.parse_losses(losses)[0].backward()
    model.zero_grad(set_to_none=True)
    for part, kept in buffers:
        for name, buffer in kept.items():
            setattr(part, name, buffer)
    return count.get_total_flops() * factor


def _few(batch: Any) -> tuple[Any, float]:
    """The first samples of a batch whose every part has one entry a sample, and how many times more it holds."""
    parts = list(batch.values()) if isinstance(batch, Mapping) else []
    if not parts or not all(isinstance(part, Tensor | Sequence) and not isinstance(part, str) for part in parts):
        return batch, 1.0
    sizes = {len(part) if not isinstance(part, Tensor) or part.ndim else 0 for part in parts}
    if len(sizes) > 1 or (size := sizes.pop()) <= FEW:
        return batch, 1.0
    return {name: part[:FEW] for name, part in batch.items()}, size / FEW
