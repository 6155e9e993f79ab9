"""M3AE against a slow rewrite, one sample and one token at a time, and the authors' arrays against ours."""

import math

import pytest
import torch

from pipeline.config import ConfigError
from pipeline.data.kinds import image_text
from pipeline.engine.objective import Objective
from pipeline.methods.m3ae import CC12M, IMAGENET, LONGEST, M3AE
from tests.methods import recipe, slow
from tests.methods.conftest import build

T, U, L = 6, 5, 16
V = recipe("m3ae")["options"]["vocabulary_size"]


def positions(length, width):
    """Of a text: sines, then cosines."""
    angles = [[n / 10000 ** (2 * k / width) for k in range(width // 2)] for n in range(length)]
    return torch.tensor([[math.sin(a) for a in row] + [math.cos(a) for a in row] for row in angles])


def places(width):
    """Of a 4 × 4 grid of patches: the column in the first half."""
    half = positions(4, width // 2)
    return torch.stack([torch.cat([half[column], half[row]]) for row in range(4) for column in range(4)])


def transformed(tokens, padded, state, prefix, num_heads):
    """Blocks and norm; what is padded is a key to none."""
    bias = torch.zeros(num_heads, len(tokens), len(tokens))
    bias[:, :, padded] = -1e7
    tokens = slow.blocks(tokens, state, prefix, num_heads, bias, gelu="tanh")
    return slow.norm(tokens, state, f"{prefix}norm")


def filled(streams, state, num_heads=4):
    """Predictions of one sample.

    streams: by modality its embedded tokens, indices of the visible ones, and whether each is padding.
    """
    sequence, padded = [state["encoder.cls_token"][0, 0]], [False]
    for tokens, visible, padding in streams.values():
        sequence += [tokens[i] for i in visible]
        padded += [bool(padding[i]) for i in visible]
    x = transformed(torch.stack(sequence), torch.tensor(padded), state, "encoder.", num_heads)
    x = slow.linear(x, state, "decoder.embed")
    sequence, padded, start = [x[0]], [False], 1
    for name, (tokens, visible, padding) in streams.items():
        table = places(64) if name == "image" else positions(len(tokens), 64)
        for i in range(len(tokens)):
            token = x[start + visible.index(i)] if i in visible else state[f"decoder.mask_tokens.{name}"][0, 0]
            sequence.append(token + table[i] + state[f"decoder.types.{name}"][0, 0])
        padded += [bool(one) for one in padding]
        start += len(visible)
    x = transformed(torch.stack(sequence), torch.tensor(padded), state, "decoder.", num_heads)
    found, start = {}, 1
    for name, (tokens, _, _) in streams.items():
        found[name] = slow.linear(x[start : start + len(tokens)], state, f"decoder.heads.{name}")
        start += len(tokens)
    return found


def words(ids, state):
    table = state["text_embed.weight"][ids]
    return table + positions(len(ids), table.shape[1]) + state["text_type"][0, 0]


def entropy(scores, ids, visible, padding, everywhere):
    """Mean over a text's words that are hidden and there; 0 where there is none."""
    losses = [
        -torch.log_softmax(scores[i], 0)[ids[i]]
        for i in range(len(ids))
        if not padding[i] and (everywhere or i not in visible)
    ]
    return sum(losses) / len(losses) if losses else torch.tensor(0.0)


def slow_m3ae(method, images, ids, padding, noise, text_ids=None, text_padding=None):
    """Loss of images, of captions, of texts without images; and what patches are taken for."""
    state, options = method.state_dict(), method.options
    shown, told, texts, predictions = [], [], [], []
    for n in range(len(images)):
        draws = noise[0] if options.shared_mask else noise[n]
        seen = slow.smallest(draws[:L], int(L * (1 - options.image_mask_ratio)))
        heard = slow.smallest(draws[L : L + T], int(T * (1 - options.text_mask_ratio)))
        cuts = slow.cuts(images[n], 4)
        kernel, bias = state["encoder.patch_embed.proj.weight"], state["encoder.patch_embed.proj.bias"]
        patches = torch.stack([(kernel * cut).sum((1, 2, 3)) + bias for cut in cuts])
        patches = patches + places(96) + state["encoder.pos_embed_type"][0, 0]
        streams = {
            "image": (patches, seen, [False] * L),
            "text": (words(ids[n], state), heard, padding[n]),
        }
        found = filled(streams, state)
        predictions.append(found["image"])
        errors = []
        for i, cut in enumerate(cuts):
            if i in seen and not options.image_all_tokens:
                continue
            pixels = [
                (cut[c] * IMAGENET[1][c] + IMAGENET[0][c] - CC12M[0][c]) / CC12M[1][c] for c in range(3)
            ]  # fmt: skip
            errors.append(((found["image"][i] - slow.pixels(torch.stack(pixels))) ** 2).mean())
        shown.append(sum(errors) / len(errors))
        told.append(entropy(found["text"], ids[n], heard, padding[n], options.text_all_tokens))
        if text_ids is not None:
            heard = slow.smallest(draws[L + T :], int(U * (1 - options.text_mask_ratio)))
            found = filled({"text": (words(text_ids[n], state), heard, text_padding[n])}, state)
            texts.append(entropy(found["text"], text_ids[n], heard, text_padding[n], options.text_all_tokens))
    means = [sum(part) / len(part) if part else torch.tensor(0.0) for part in (shown, told, texts)]
    return *means, torch.stack(predictions)


def shaken(**changes):
    """A method whose parameters are anything but their first values; fixed positions stay."""
    method = build("m3ae", **changes).eval()
    table = method.encoder.pos_embed_image.clone()
    slow.shake(method, 0.05).encoder.pos_embed_image.data.copy_(table)
    return method


@pytest.fixture
def inputs():
    """Four samples: a full caption, a short one, none, and one of a single word."""
    generator = torch.Generator().manual_seed(1)
    padding, text_padding = (
        torch.arange(length) >= torch.tensor(there)[:, None] for length, there in ((T, [6, 3, 0, 1]), (U, [5, 2, 3, 4]))
    )
    return {
        "images": torch.randn(4, 3, 16, 16, generator=generator),
        "ids": torch.randint(V, (4, T), generator=generator),
        "padding": padding,
        "noise": torch.rand(4, L + T + U, generator=generator),
        "text_ids": torch.randint(V, (4, U), generator=generator),
        "text_padding": text_padding,
    }


CASES = (
    {"unpaired_text_weight": 0.7},
    {"unpaired_text_weight": 0.7, "shared_mask": True, "text_mask_ratio": 0.5, "image_mask_ratio": 0.75},
    {"unpaired_text_weight": 0.7, "image_all_tokens": True, "text_all_tokens": True, "decoder_depth": 2},
    {"unpaired_text_weight": 0.0},
)


@pytest.mark.parametrize("changes", CASES)
def test_each_loss_term_equals_a_slow_rewrite(changes, inputs):
    method = shaken(**changes)
    if not method.options.unpaired_text_weight:
        inputs = {name: value for name, value in inputs.items() if not name.startswith("text_")}
    with torch.no_grad():
        step = method(**inputs)
        shown, told, texts, predictions = slow_m3ae(method, **inputs)
    expected = shown + method.options.text_weight * told + method.options.unpaired_text_weight * texts
    assert step.parts["image_loss"].item() == pytest.approx(shown.item(), rel=1e-5)
    assert step.parts["text_loss"].item() == pytest.approx(told.item(), rel=1e-5)
    if "text_ids" in inputs:
        assert step.parts["unpaired_text_loss"].item() == pytest.approx(texts.item(), rel=1e-5)
    assert step.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.allclose(step.prediction, predictions, atol=1e-5)


def test_a_shared_mask_is_one_for_all(inputs):
    mask = build("m3ae", shared_mask=True)(**inputs).mask
    assert (mask == mask[0]).all() and not (build("m3ae")(**inputs).mask == mask[0]).all()


def test_without_a_caption_an_image_is_learned_as_without_words(inputs):
    """The image-only twin: no word is seen, whatever stands in the places of words, and none counts."""
    method = build("m3ae", unpaired_text_weight=0.0).eval()
    silent = {name: value for name, value in inputs.items() if not name.startswith("text_")}
    silent["padding"] = torch.ones_like(silent["padding"])
    with torch.no_grad():
        step = method(**silent)
        other = method(**{**silent, "ids": (silent["ids"] + 1) % V})
        image = method.hide(**silent)["image"]
        alone = method.fill({"image": image})["image"]
    assert step.parts["text_loss"] == 0 and torch.equal(step.loss, other.loss)
    assert torch.allclose(step.prediction, alone, atol=1e-5)


def test_texts_without_a_weight_cost_nothing_and_with_one_are_there(inputs):
    settings = recipe("m3ae")
    settings["text"]["unpaired_length"] = U
    batch = image_text.example(settings, 4)
    assert "text_ids" in build("m3ae", unpaired_text_weight=1.0).inputs(batch, lambda num: torch.rand(4, num))
    assert "text_ids" not in build("m3ae", unpaired_text_weight=0.0).inputs(batch, lambda num: torch.rand(4, num))
    settings["text"]["unpaired_length"] = 0
    with pytest.raises(ConfigError, match=r"unpaired_text_weight is 1.0, and text.unpaired_length is 0"):
        Objective(build("m3ae", unpaired_text_weight=1.0), 0)(**image_text.example(settings, 4))


def test_a_text_longer_than_its_positions_is_refused(inputs):
    long = {**inputs, "ids": torch.zeros(4, LONGEST + 1, dtype=torch.long), "noise": torch.rand(4, L + LONGEST + 1 + U)}
    with pytest.raises(ConfigError, match=f"text.length is {LONGEST + 1}; expected at most {LONGEST} tokens"):
        build("m3ae")(**{**long, "padding": long["ids"] > 0})


def test_tokens_out_of_range_are_refused(inputs):
    with pytest.raises(IndexError):
        build("m3ae")(**{**inputs, "ids": inputs["ids"] + V})


def test_pictures_paste_what_was_visible_and_undo_the_statistics(inputs):
    method = build("m3ae").eval()
    step = method(**inputs)
    rows = method.pictures(step._replace(prediction=step.target), inputs["images"])
    assert torch.equal(rows["input"], inputs["images"])
    assert torch.allclose(rows["reconstruction"], inputs["images"], atol=1e-5)
    hidden = (rows["masked"] == 0).all(dim=1).float().mean()
    assert hidden.item() == pytest.approx(step.mask.float().mean().item())


def theirs(state):
    """Our state in the authors' tree, for pixels of their statistics."""
    factor = torch.tensor(IMAGENET[1]) / torch.tensor(CC12M[1])
    offset = (torch.tensor(IMAGENET[0]) - torch.tensor(CC12M[0])) / torch.tensor(CC12M[1])
    kernel = state["encoder.patch_embed.proj.weight"] / factor.view(3, 1, 1)
    bias = state["encoder.patch_embed.proj.bias"] - (kernel * offset.view(3, 1, 1)).sum((1, 2, 3))
    tree = {
        "cls_token": state["encoder.cls_token"],
        "encoder_image_type_embedding": state["encoder.pos_embed_type"],
        "encoder_text_type_embedding": state["text_type"],
        "decoder_image_type_embedding": state["decoder.types.image"],
        "decoder_text_type_embedding": state["decoder.types.text"],
        "image_mask_embedding": state["decoder.mask_tokens.image"],
        "text_mask_embedding": state["decoder.mask_tokens.text"],
        "image_embedding/kernel": kernel.permute(2, 3, 1, 0).reshape(48, 96),
        "image_embedding/bias": bias,
        "text_embedding/embedding": state["text_embed.weight"],
    }
    maps = {"decoder_input_projection": "decoder.embed", "decoder_image_output/Dense_0": "decoder.heads.image",
            "decoder_text_output/Dense_0": "decoder.heads.text"}  # fmt: skip
    norms = {}
    for part in ("encoder", "decoder"):
        depth = len({name.split(".")[2] for name in state if name.startswith(f"{part}.blocks.")})
        norms[f"{part}/LayerNorm_0"] = f"{part}.norm"
        for i in range(depth):
            norms |= {f"{part}/Block_{i}/LayerNorm_{k}": f"{part}.blocks.{i}.norm{k + 1}" for k in range(2)}
            for name, ours in (("Attention_0/Dense_0", "attn.qkv"), ("Attention_0/Dense_1", "attn.proj"),
                               ("TransformerMLP_0/fc1", "mlp.fc1"), ("TransformerMLP_0/fc2", "mlp.fc2")):  # fmt: skip
                maps[f"{part}/Block_{i}/{name}"] = f"{part}.blocks.{i}.{ours}"
    for path, name in maps.items():
        tree |= {f"{path}/kernel": state[f"{name}.weight"].T, f"{path}/bias": state[f"{name}.bias"]}
    for path, name in norms.items():
        tree |= {f"{path}/scale": state[f"{name}.weight"], f"{path}/bias": state[f"{name}.bias"]}
    return tree


def test_the_authors_arrays_are_read():
    ours = shaken().state_dict()
    released = theirs(ours)
    translated = M3AE.translate(released)
    build("m3ae").resize(translated)
    assert translated.keys() == ours.keys()
    assert all(
        torch.allclose(translated[name], ours[name], atol=1e-5) for name in ours if "pos_embed_image" not in name
    )


def test_their_mae_on_images_has_no_type():
    ours = build("m3ae").state_dict()
    released = {path: value for path, value in theirs(ours).items() if "text" not in path and "type" not in path}
    translated = M3AE.translate(released)
    assert (translated["encoder.pos_embed_type"] == 0).all()
    build("m3ae").resize(translated)
    assert {name for name in ours if name.startswith("encoder.")} <= translated.keys() < ours.keys()
