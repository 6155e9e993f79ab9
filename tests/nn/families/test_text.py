"""Encoders of labelled texts."""

import pytest
import torch
from torch import nn

from pipeline.nn.encoders import build_encoder, load_encoder, save_encoder

MODELS = ("typer_micro", "text_cnn_micro", "bilstm_micro")


def texts(num=3, length=15):
    words = torch.randint(2, 50, (num, length), generator=torch.Generator().manual_seed(0))
    text = torch.stack([words, torch.ones_like(words)], dim=1)
    text[1, :, 2:4] = 0
    return text


@pytest.mark.parametrize("model", MODELS)
def test_features_are_a_text_s_own(model):
    torch.manual_seed(0)
    encoder, text = build_encoder(model).eval(), texts()
    features = encoder.forward_features(text)
    assert features.shape == (3, encoder.embed_dim) and torch.isfinite(features).all()
    assert torch.allclose(encoder.forward_features(text[1:2]), features[1:2], atol=1e-6)
    assert not torch.allclose(features[0], features[2], atol=1e-3)


@pytest.mark.parametrize("model", MODELS)
def test_it_is_read_back_as_it_was_saved(model, tmp_path):
    torch.manual_seed(0)
    encoder = build_encoder(model).eval()
    save_encoder(encoder, tmp_path / "encoder.safetensors")
    again = load_encoder(tmp_path / "encoder.safetensors").eval()
    assert again.model_name == model and again.takes == "text"
    assert torch.equal(encoder.forward_features(texts()), again.forward_features(texts()))


def test_the_typer_is_its_papers_equations():
    """Mean of the mention beside the attended outputs of each side's LSTM, of which padding gets no weight."""
    torch.manual_seed(0)
    encoder, text = build_encoder("typer_micro").eval(), texts()
    for i in range(3):
        words, there = encoder.words.table.weight[text[i, 0]], text[i, 1] > 0
        outputs, weights = [], []
        for lstm, places in ((encoder.left, range(6)), (encoder.right, range(9, 15))):
            found = lstm(words[list(places)][None])[0][0]
            for row, place in enumerate(places):
                if there[place]:
                    outputs.append(found[row])
                    weights.append((encoder.score.weight @ (encoder.hidden.weight @ found[row]).tanh()).exp())
        context = sum(w * output for w, output in zip(weights, outputs, strict=True)) / sum(weights)
        inside = [words[place] for place in range(6, 9) if there[place]]
        expected = torch.cat([sum(inside) / len(inside), context])
        assert torch.allclose(encoder.forward_features(text[i : i + 1])[0], expected, atol=1e-5)


def test_a_text_without_sides_or_mention_has_features():
    encoder, text = build_encoder("typer_micro").eval(), texts()
    text[:, :, :6] = text[:, :, 9:] = 0
    features = encoder.forward_features(text)
    assert torch.isfinite(features).all() and (features[:, encoder.words.table.embedding_dim :] == 0).all()
    assert torch.isfinite(encoder.forward_features(torch.zeros_like(text))).all()


def test_a_window_without_a_mention_is_told():
    with pytest.raises(ValueError, match="the window has 12 tokens; this encoder takes 6 on either side"):
        build_encoder("typer_micro").forward_features(texts(length=12))


def test_paper_sizes():
    """Shimaoka et al.: words of 300, contexts of 200; 500 features beside no hand-made ones."""
    with torch.device("meta"):
        encoder = build_encoder("typer")
    assert encoder.embed_dim == 500 and isinstance(encoder.left, nn.LSTM) and encoder.left.hidden_size == 100
