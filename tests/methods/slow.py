"""Transformers written out one image, one head and one token at a time, over plain state dicts: references for tests.

`prefix` is what stands before a part's names, so that a released checkpoint can be run in its authors' own names.
"""

import math

import torch


def layer_norm(x, weight, bias, eps=1e-6):
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, unbiased=False, keepdim=True)
    return (x - mean) / torch.sqrt(variance + eps) * weight + bias


def block(x, state, prefix, num_heads, bias=None, eps=1e-6, gelu="erf"):
    """One pre-norm Transformer block on (N, D) tokens of a single image, head by head; BEiT's where the names are.

    bias: (heads, N, N), added to the attention. gelu: exact, or its approximation by `tanh`.
    """
    p = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    width = x.shape[1]
    size = width // num_heads
    y = layer_norm(x, p["norm1.weight"], p["norm1.bias"], eps)
    if "attn.qkv.bias" in p:
        offset = p["attn.qkv.bias"]
    else:  # keys have no bias
        offset = torch.cat([p["attn.q_bias"], torch.zeros(width), p["attn.v_bias"]])
    q, k, v = (y @ p["attn.qkv.weight"].T + offset).split(width, dim=1)
    heads = []
    for head in range(num_heads):
        part = slice(head * size, (head + 1) * size)
        scores = q[:, part] @ k[:, part].T / math.sqrt(size)
        heads.append(torch.softmax(scores if bias is None else scores + bias[head], dim=1) @ v[:, part])
    x = x + p.get("gamma_1", 1.0) * (torch.cat(heads, dim=1) @ p["attn.proj.weight"].T + p["attn.proj.bias"])
    y = layer_norm(x, p["norm2.weight"], p["norm2.bias"], eps) @ p["mlp.fc1.weight"].T + p["mlp.fc1.bias"]
    bend = torch.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)) if gelu == "tanh" else torch.erf(y / math.sqrt(2))
    y = 0.5 * y * (1 + bend)
    return x + p.get("gamma_2", 1.0) * (y @ p["mlp.fc2.weight"].T + p["mlp.fc2.bias"])


def blocks(x, state, prefix, num_heads, bias=None, eps=1e-6, gelu="erf"):
    """All blocks that are there."""
    start = f"{prefix}blocks."
    depth = len({key.removeprefix(start).split(".")[0] for key in state if key.startswith(start)})
    for index in range(depth):
        x = block(x, state, f"{prefix}blocks.{index}.", num_heads, bias, eps, gelu)
    return x


def cuts(image, size):
    """Patches of one image, row by row: (3, size, size) each."""
    rows, columns = image.shape[1] // size, image.shape[2] // size
    return [
        image[:, r * size : (r + 1) * size, c * size : (c + 1) * size] for r in range(rows) for c in range(columns)
    ]  # fmt: skip


def pixels(cut):
    """A patch as a vector: by row, column and channel, the channel fastest."""
    _, rows, columns = cut.shape
    return torch.stack([cut[ch, r, c] for r in range(rows) for c in range(columns) for ch in range(3)])


def embedded(image, state, prefix="encoder."):
    """(L, D) patch tokens of one image, with absolute positions where there are any."""
    kernel, bias = state[f"{prefix}patch_embed.proj.weight"], state[f"{prefix}patch_embed.proj.bias"]
    tokens = torch.stack([(kernel * cut).sum((1, 2, 3)) + bias for cut in cuts(image, kernel.shape[-1])])
    return tokens + state[f"{prefix}pos_embed"][0, 1:] if f"{prefix}pos_embed" in state else tokens


def with_class_token(tokens, state, prefix="encoder."):
    """(K, D) -> (1 + K, D)."""
    token = state[f"{prefix}cls_token"][0]
    return torch.cat([token + state[f"{prefix}pos_embed"][0, :1] if f"{prefix}pos_embed" in state else token, tokens])


def norm(x, state, name):
    return layer_norm(x, state[f"{name}.weight"], state[f"{name}.bias"])


def linear(x, state, name):
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def encoded(tokens, state, num_heads, prefix="encoder."):
    """(K, D) patch tokens -> (1 + K, D), after the final norm."""
    x = with_class_token(tokens, state, prefix)
    return norm(blocks(x, state, prefix, num_heads), state, f"{prefix}norm")


def decoded(x, visible, num_patches, state, num_heads, prefix="decoder.", mask_token="decoder.mask_token"):
    """(1 + K, W) embedded tokens, and which patches they are, -> (1 + L, P)."""
    sequence = [x[0]]
    for patch in range(num_patches):
        sequence.append(x[1 + visible.index(patch)] if patch in visible else state[mask_token][0, 0])
    x = blocks(torch.stack(sequence) + state[f"{prefix}pos_embed"][0], state, prefix, num_heads)
    return linear(norm(x, state, f"{prefix}norm"), state, f"{prefix}pred")


def smallest(draws, count):
    """Indices of the smallest draws, the smallest first."""
    return sorted(range(len(draws)), key=lambda i: draws[i].item())[:count]


def displacement_bias(table, rows, columns):
    """BEiT's bias from its table: by displacement between patches, then class to patch, patch to class, itself."""
    num = rows * columns
    bias = torch.empty(table.shape[1], 1 + num, 1 + num)
    for a in range(1 + num):
        for b in range(1 + num):
            if a and b:
                (r, c), (s, d) = divmod(a - 1, columns), divmod(b - 1, columns)
                index = (r - s + rows - 1) * (2 * columns - 1) + (c - d + columns - 1)
            else:
                index = len(table) - (1 if a == b else 2 if a else 3)
            bias[:, a, b] = table[index]
    return bias


def beit(image, state, grid, num_heads, mask=None, mask_token=None, prefix="encoder."):
    """(1 + L, D) of one image, after the final norm; hidden patches are replaced by the mask token."""
    tokens = embedded(image, state, prefix)
    if mask is not None:
        tokens = torch.stack(
            [mask_token[0, 0] if hidden else token for token, hidden in zip(tokens, mask, strict=True)]
        )
    bias = displacement_bias(state[f"{prefix}rel_pos_bias.relative_position_bias_table"], *grid)
    x = blocks(with_class_token(tokens, state, prefix), state, prefix, num_heads, bias)
    return norm(x, state, f"{prefix}norm")


def standardised(token):
    """Zero mean and unit variance, the variance divided by one less than the number of values."""
    mean = token.sum() / len(token)
    variance = ((token - mean) ** 2).sum() / (len(token) - 1)
    return (token - mean) / torch.sqrt(variance + 1e-6)


def smooth_l1(prediction, target, beta):
    """Mean over the values of one token."""
    total = 0.0
    for d in (prediction - target).abs().tolist():
        total += 0.5 * d * d / beta if d < beta else d - 0.5 * beta
    return total / len(target)


@torch.no_grad()
def shake(module, scale=0.02):
    """Move all parameters from their initial zeros and ones, whose mistakes would not show."""
    for name, parameter in module.named_parameters():
        if not name.endswith("pos_embed"):
            parameter += (20 * scale if "bias_table" in name else scale) * torch.randn_like(parameter)
    return module
