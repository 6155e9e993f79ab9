"""Model cards as the Hugging Face hub reads them, and code in them that loads the weights."""

import re
from pathlib import Path

import pytest
import yaml

from pipeline.report.build import build
from pipeline.report.cards import ENCODER, trained
from pipeline.report.grid import read_grid

from .made import make_study, publish, value_of

hub = pytest.importorskip("huggingface_hub")


@pytest.fixture
def encoded(study, monkeypatch):
    """The made-up study whose trained runs left an encoder."""
    plain = publish(study, "pretrain", "mae", 0)
    folder = read_grid(study).select("pretrain", "mae")[0].folder
    assert "files/weights.bin" in plain["artefacts"]
    monkeypatch.setattr("pipeline.report.cards.ENCODER", "files/weights.bin")
    return study, folder / "files/weights.bin"


def test_the_hub_reads_a_cards_results(encoded):
    study, weights = encoded
    build(study)
    card = hub.ModelCard.load("reports/made/models/mae-0/README.md")
    assert card.data.model_name == "made-mae-0"
    assert {"self-supervised-learning", "mae", "images"} <= set(card.data.tags)
    found = {(one.task_name, one.metric_type): one for one in card.data.eval_results}
    knn = found["k-nearest neighbours", "top1"]
    assert knn.metric_value == value_of("knn", "top1", "mae", 0), "of this seed, not the mean"
    assert (knn.task_type, knn.dataset_name, knn.dataset_type) == ("image-classification", "digits", "digits")
    assert found["Detection and instance segmentation", "box_ap"].task_type == "object-detection"
    assert (
        "Not comparable" in card.text and read_grid(study).select("pretrain", "mae")[0].manifest["command"] in card.text
    )
    linked = Path("reports/made/models/mae-0/model.safetensors")
    assert linked.read_bytes() == weights.read_bytes() and linked.samefile(weights)


def test_who_learned_nothing_or_left_no_encoder_has_no_card(encoded):
    study, _ = encoded
    runs = {name.rpartition("-")[0] for name in trained(read_grid(study))}
    assert runs == {"supervised", "mae", "mae-r50", "mae-r90"}
    assert ENCODER not in read_grid(study).select("pretrain", "mae")[0].manifest["artefacts"]


def test_without_weights_on_this_machine_the_card_still_stands(encoded):
    study, weights = encoded
    weights.unlink()
    build(study)
    assert sorted(path.name for path in Path("reports/made/models/mae-0").iterdir()) == ["README.md"]


def test_the_code_of_a_card_loads_the_encoder(root, tmp_path, monkeypatch):
    """A plain Vision Transformer of this project is timm's to the last key."""
    import torch
    from safetensors.torch import save_file

    from pipeline.nn.families.vit import build as build_encoder

    size = {"patch_size": 4, "width": 96, "num_blocks": 2, "num_heads": 4}
    sizes = yaml.safe_dump({"takes": ["images"], "gives": ["features"], "models": {"vit_micro": size}})
    (root / "config/models/vit.yaml").write_text(sizes)
    study = make_study()
    publish(study, "pretrain", "mae", 0, settings={**study.settings("pretrain", "mae"), "augment": {"image_size": 16}})
    monkeypatch.setattr("pipeline.report.cards.ENCODER", "files/weights.bin")
    build(study)
    text = Path("reports/made/models/mae-0/README.md").read_text()
    assert hub.ModelCard(text).data.library_name == "timm"
    encoder = build_encoder(size, (16, 16), 0.0)
    monkeypatch.chdir(tmp_path)
    save_file(encoder.state_dict(), "model.safetensors")
    names = {}
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], names)
    images = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        ours, theirs = encoder.eval().forward_features(images), names["model"].eval().forward_features(images)
    assert torch.equal(ours, theirs)
