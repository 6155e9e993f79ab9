"""B-Rep SSL against a slow rewrite, face by face, link by link and place by place."""

import math

import pytest
import torch

from pipeline.data.kinds import solids
from pipeline.nn.encoders import build_encoder, load_encoder, save_encoder
from tests.methods import recipe, slow
from tests.methods.conftest import build


def leaky(x, slope=0.01):
    return torch.where(x > 0, x, slope * x)


def slow_attention(state, name, sources, targets, links, features, heads):
    """One target and one head at a time."""
    rows, width = [], state[f"{name}.skip.weight"].shape[0]
    for place, target in enumerate(targets):
        mine = [number for number, (_, end) in enumerate(links.tolist()) if end == place]
        total = torch.zeros(width)
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            messages, scores = [], []
            for number in mine:
                message = state[f"{name}.message.weight"][part] @ sources[links[number, 0]]
                message = message + state[f"{name}.message.bias"][part] + state[f"{name}.link.bias"][part]
                message = message + state[f"{name}.link.weight"][part] @ features[number]
                messages.append(message)
                scores.append(leaky(message @ state[f"{name}.attention"][0, head], 0.2).item())
            weights = [math.exp(score) / sum(map(math.exp, scores)) for score in scores]
            total += sum(weight * message for weight, message in zip(weights, messages, strict=True)) / heads
        rows.append(total + slow.linear(target, state, f"{name}.skip"))
    return torch.stack(rows)


def slow_relative(state, name, sources, targets, links):
    rows = []
    for place, target in enumerate(targets):
        around = [target - sources[start] for start, end in links.tolist() if end == place]
        most = torch.stack([max(one[i] for one in around) for i in range(len(target))]) if around else 0 * target
        rows.append(target + leaky(slow.linear(torch.cat([target, most]), state, f"{name}.map")))
    return torch.stack(rows)


def slow_codes(model, state, graph):
    if model == "brep":
        edges = slow_attention(state, "encoder.edges", graph.vertices, graph.edges, graph.ends, graph.starts, 2)
        return slow_attention(state, "encoder.faces", edges, graph.faces, graph.coedges, graph.against, 16)
    levels = [
        leaky(slow.linear(getattr(graph, name), state, f"encoder.{name}")) for name in ("vertices", "edges", "faces")
    ]
    edges = slow_relative(state, "encoder.to_edges", levels[0], levels[1], graph.ends)
    return slow_relative(state, "encoder.to_faces", edges, levels[2], graph.coedges)


def slow_decoder(method, place, code):
    """The whole input in front of every layer; each row of a weight is its direction times its length."""
    shown = hidden = torch.cat([place, code])
    layers = list(method.decoder.layers)
    for number, layer in enumerate(layers):
        length, direction = layer.parametrizations.weight.original0, layer.parametrizations.weight.original1
        weight = torch.stack([g * v / v.norm() for g, v in zip(length, direction, strict=True)])
        hidden = weight @ (hidden if number == 0 else torch.cat([shown, hidden])) + layer.bias
        if number < len(layers) - 1:
            hidden = hidden.clamp(min=0)
    return hidden


@pytest.mark.parametrize("loss", ["sum", "channels"])
@pytest.mark.parametrize("model", ["brep", "brep_relative"])
def test_loss_and_codes_equal_a_slow_rewrite(model, loss):
    method = slow.shake(build("brep_ssl", model=model, loss=loss, decoder_width=16, decoder_depth=3).eval(), 0.1)
    batch = solids.example({"num_points": 3}, 2)
    with torch.no_grad():
        codes = slow_codes(model, method.state_dict(), batch["solids"])
        assert torch.allclose(method.encoder.forward_features(batch["solids"]), codes, atol=1e-5)
        step = method(**method.inputs(batch, None))
        errors = [(slow_decoder(method, place, codes[face]) - batch["points"][face, number]).square()
                  for face in range(len(codes)) for number, place in enumerate(batch["coordinates"][face])]  # fmt: skip
    explicit = sum(float(error[:3].sum()) for error in errors) / (3 * len(errors))
    implicit = sum(float(error[3]) for error in errors) / len(errors)
    expected = explicit + implicit if loss == "sum" else (3 * explicit + implicit) / 4
    assert step.loss.item() == pytest.approx(expected, rel=1e-5)
    assert step.parts["points"].item() == pytest.approx(explicit, rel=1e-5)
    assert step.parts["distances"].item() == pytest.approx(implicit, rel=1e-5)


def test_sizes_are_those_of_the_authors():
    encoder = build_encoder("brep")
    counts = [sum(parameter.numel() for parameter in part.parameters()) for part in (encoder.edges, encoder.faces)]
    assert counts == [2_112, 71_040]
    options = recipe("brep_ssl", "paper")["options"]
    method = build("brep_ssl", **options)
    assert [layer.in_features for layer in method.decoder.layers] == [66, 1090, 1090, 1090]


def test_a_part_s_codes_do_not_depend_on_its_company():
    encoder, graph = build_encoder("brep").eval(), solids.example({"num_points": 1}, 3)["solids"]
    alone = [value[value.shape[0] // 3 : 2 * value.shape[0] // 3] for value in graph]
    ends, coedges = alone[3] - torch.tensor([8, 12]), alone[5] - torch.tensor([12, 6])
    second = graph._replace(faces=alone[0], edges=alone[1], vertices=alone[2], ends=ends, starts=alone[4],
                            coedges=coedges, against=alone[6])  # fmt: skip
    assert torch.allclose(encoder.forward_features(graph)[6:12], encoder.forward_features(second), atol=1e-5)


@pytest.mark.parametrize("model", ["brep", "brep_relative", "brep_raw"])
def test_encoders_come_back_from_their_files(model, tmp_path):
    encoder, graph = build_encoder(model), solids.example({"num_points": 1}, 2)["solids"]
    save_encoder(encoder, tmp_path / "encoder.safetensors")
    loaded = load_encoder(tmp_path / "encoder.safetensors")
    assert torch.equal(loaded.forward_features(graph), encoder.forward_features(graph))
    assert loaded.forward_features(graph).shape == (12, encoder.embed_dim)


def test_an_unknown_loss_is_refused():
    with pytest.raises(Exception, match=r"loss is 'l1'; available: \['sum', 'channels'\]"):
        build("brep_ssl", loss="l1")
