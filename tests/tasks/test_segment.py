import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from pipeline.nn.encoders import build_encoder, load_encoder, save_encoder
from pipeline.statistics import percentile_interval, resamples
from pipeline.tasks import segment
from pipeline.tasks.dense.sets import SegmentationSet
from pipeline.tasks.dense.transforms import SceneCrop
from tests.tasks.dense.scenes import HEIGHT, WIDTH, labels, write_segmentation


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """What `evaluate` asks of a cell: the demo's protocol, two steps long, on tiny data."""
    root = tmp_path_factory.mktemp("segment")
    write_segmentation(root / "data" / "files")
    torch.manual_seed(0)
    save_encoder(build_encoder("vit_micro", 16), root / "encoder.safetensors")
    settings = yaml.safe_load(Path("config/tasks/segment.yaml").read_text())["demo"]
    settings["train"] |= {"duration": "2 steps", "warmup": "1 steps", "batch_size": 2, "log_every": 1}
    settings["train"]["checkpoint_every"] = 1
    settings |= {"num_pictures": 3, "eval_batch_size": 3}
    settings["crop"] = settings["crop"] | {"crop_size": 32, "short_size": 32}
    settings["heads"] = settings["heads"] | {"stride": 24}
    files = root / "work" / "files"
    files.mkdir(parents=True)
    return SimpleNamespace(
        settings=settings,
        data=root / "data",
        encoder=root / "encoder.safetensors",
        work=root / "work",
        files=files,
        seed=0,
    )


def crop_of(cell: SimpleNamespace) -> SceneCrop:
    return SceneCrop(**cell.settings["crop"])


def test_two_steps_and_an_evaluation(cell: SimpleNamespace) -> None:
    found: dict[str, Any] = segment.evaluate(cell)
    assert [record["metric"] for record in found["records"]] == ["miou", "macc", "aacc"]
    assert all(0 <= record["value"] <= 100 and record["count"] == 4 for record in found["records"])
    assert len((cell.files / "log.jsonl").read_text().splitlines()) == 2
    rows = json.loads((cell.files / "per_class.json").read_text())
    assert list(rows) == ["red", "green", "ground"] and set(rows["red"]) == {"iou", "accuracy"}
    with Image.open(cell.files.parent / found["pictures"][0]["path"]) as picture:
        assert picture.width > 1000 and len(picture.convert("RGB").getcolors(2**24)) > 100


def test_the_truth_scores_a_hundred_and_255_is_left_out() -> None:
    pixels = torch.zeros(4, 3, dtype=torch.float64)
    for number in range(4):
        true = labels(number)
        guess = true.copy()
        guess[true == 255] = number % 3  # whatever is said there does not matter
        pixels += segment.areas(guess, true, 3)
    assert pixels[3].sum() == 4 * (HEIGHT - 4) * WIDTH
    assert {key: segment.scores(pixels)[key] for key in ("miou", "macc", "aacc")} == dict.fromkeys(
        ("miou", "macc", "aacc"), 100.0
    )


def test_scores_against_counting_by_hand() -> None:
    true = np.array([[0, 0, 0, 1], [1, 1, 255, 2]])
    guess = np.array([[0, 0, 1, 1], [1, 0, 2, 1]])
    found = segment.scores(segment.areas(guess, true, 4))
    assert found["iou"][:3].tolist() == pytest.approx([100 * 2 / 4, 100 * 2 / 5, 0.0])
    assert np.isnan(found["iou"][3]) and np.isnan(found["accuracy"][3])  # neither there nor predicted
    assert found["miou"] == pytest.approx(30.0)
    assert found["macc"] == pytest.approx((200 / 3 + 200 / 3) / 3)
    assert found["aacc"] == pytest.approx(100 * 4 / 7)
    row = segment.per_class(found, ("a", "b", "c", "d"))["d"]
    assert row == {"iou": None, "accuracy": None}


def test_scores_of_a_whole_split_are_those_of_its_confusion() -> None:
    random, counts = np.random.default_rng(0), np.zeros((7, 7))
    pixels = torch.zeros(4, 7, dtype=torch.float64)
    for _ in range(20):
        true = random.choice([0, 1, 2, 4, 5, 255], (37, 53)).astype(np.uint8)  # 3 and 6 are not there, 3 is predicted
        guess = np.where(random.random(true.shape) < 0.6, true % 6, random.integers(0, 6, true.shape)).astype(np.uint8)
        pixels += segment.areas(guess, true, 7)
        np.add.at(counts, (true[true < 255], guess[true < 255]), 1)
    hits, found = np.diag(counts), segment.scores(pixels)
    with np.errstate(invalid="ignore"):
        iou, accuracy = 100 * hits / (counts.sum(0) + counts.sum(1) - hits), 100 * hits / counts.sum(1)
    np.testing.assert_allclose(found["iou"], iou)
    np.testing.assert_allclose(found["accuracy"], accuracy)
    expected = [np.nanmean(iou), np.nanmean(accuracy), 100 * hits.sum() / counts.sum()]
    assert [found[name] for name in ("miou", "macc", "aacc")] == pytest.approx(expected, rel=1e-12)


def test_ignored_pixels_do_not_move_the_loss(cell: SimpleNamespace) -> None:
    data = SegmentationSet(cell.data / "files", "val", crop_of(cell), seed=0, evaluate=True)
    model = segment.build(cell.settings, load_encoder(cell.encoder), 3).eval()
    sample = data[0, 0]
    sample = replace(sample, image=sample.image[:, :32].copy(), labels=sample.labels[:, :32].copy())

    def gradient(painted: np.ndarray) -> torch.Tensor:
        batch = model.data_preprocessor(segment.pack([replace(sample, labels=painted)]), training=True)
        loss = model._run_forward(batch, mode="loss")["decode.loss_ce"]
        return torch.autograd.grad(loss, model.decode_head.conv_seg.bias)[0]

    half = sample.labels.copy()
    half[:, 16:] = 255
    assert not torch.allclose(gradient(half), gradient(sample.labels))
    nothing = gradient(np.full_like(half, 255))
    assert nothing.abs().max() == 0


def test_without_channels_a_linear_classifier_of_patches_is_all_that_is_added(cell: SimpleNamespace) -> None:
    pyramid = cell.settings["pyramid"] | {"scales": [1], "taps": [3]}
    settings = cell.settings | {"heads": cell.settings["heads"] | {"channels": None}, "pyramid": pyramid}
    model = segment.build(settings, load_encoder(cell.encoder), 3).eval()
    added = {name: tuple(p.shape) for name, p in model.named_parameters() if not name.startswith("backbone.vit.")}
    assert added == {"decode_head.conv_seg.weight": (3, 96, 1, 1), "decode_head.conv_seg.bias": (3,)}
    images = torch.randn(2, 3, 32, 32)
    weight, bias = model.decode_head.conv_seg.weight[:, :, 0, 0], model.decode_head.conv_seg.bias
    patches = model.backbone.vit(images)[0]
    expected = torch.einsum("bdhw,cd->bchw", patches, weight) + bias[:, None, None]
    torch.testing.assert_close(model.decode_head(model.backbone(images)), expected)


def test_predictions_have_the_size_of_the_file_and_windows_agree(cell: SimpleNamespace) -> None:
    settings = cell.settings | {"crop": cell.settings["crop"] | {"short_size": 48, "crop_size": 32}}
    crop = SceneCrop(**settings["crop"])
    data = SegmentationSet(cell.data / "files", "val", crop, seed=0, evaluate=True)
    model = segment.build(settings, load_encoder(cell.encoder), 3).eval()
    together = segment.predict(model, data, [0, 1, 2])
    assert [found.shape for found in together] == [(HEIGHT, WIDTH)] * 3
    alone = [segment.predict(model, data, [index])[0] for index in range(3)]
    assert all((one == other).mean() > 0.99 for one, other in zip(together, alone, strict=True))


def test_batches_hold_neighbours_of_equal_size() -> None:
    sizes = [(4, 4), (4, 4), (4, 4), (4, 5), (4, 4)]
    assert list(segment.alike(sizes, 2)) == [[0, 1], [2], [3], [4]]


def test_it_learns_in_bfloat16_and_reaches_every_parameter(cell: SimpleNamespace) -> None:
    data = SegmentationSet(cell.data / "files", "train", crop_of(cell), seed=0)
    vit = {"relative": "bias", "class_token": True, "layer_scale": 1.0}
    torch.manual_seed(0)
    model = segment.build(cell.settings | {"vit": cell.settings["vit"] | vit}, load_encoder(cell.encoder), 3)
    batch = model.data_preprocessor(segment.pack([data[0, 0], data[0, 1]]), training=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(12):
        with torch.autocast("cpu", torch.bfloat16):
            loss, _ = model.parse_losses(model._run_forward(batch, mode="loss"))
        loss.backward()
        assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_intervals_are_of_draws_of_whole_images() -> None:
    random = np.random.default_rng(0)
    true = [random.choice([0, 1, 2, 255], (9, 11)).astype(np.uint8) for _ in range(12)]
    guess = [np.where(random.random(t.shape) < 0.7, t % 3, 0).astype(np.uint8) for t in true]
    pixels = torch.stack([segment.areas(g, t, 4) for g, t in zip(guess, true, strict=True)])
    drawn = [
        segment.scores(sum(times * image for times, image in zip(draw.tolist(), pixels, strict=True)))
        for draw in resamples(12, segment.RESAMPLES)
    ]
    for name, found in segment.intervals(pixels).items():
        assert found == pytest.approx(percentile_interval(np.array([one[name] for one in drawn])))
        assert found[0] < segment.scores(pixels.sum(dim=0))[name] < found[1]
