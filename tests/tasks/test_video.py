"""Tasks on clips, whole, on a set of a few."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
import yaml

from pipeline.config import PROTOCOLS, ConfigError
from pipeline.data.kinds.video import open_eval
from pipeline.data.sources.video import moving_digits
from pipeline.nn.encoders import build_encoder, save_encoder
from pipeline.tasks import video_few_labels, video_finetune, video_knn, video_probe
from pipeline.tasks.clips import Clips, FrameAverage, apply_views, load_frozen, load_spacetime
from pipeline.tasks.features import pool

OPTIONS = {"train_clips": 24, "val_clips": 8, "directions": 4, "image_size": 16, "num_frames": 8, "val_share": 0.25,
           "scale": (0.6, 0.9), "path": (0.4, 0.7), "contrast": 0.4, "colour": 0.5, "noise": 0, "seed": 0}  # fmt: skip
FEW = {"duration": "2 steps", "warmup": "1 steps", "batch_size": 8, "eval_batch_size": 4, "temporal_views": 2,
       "labels_per_class": [1, 3], "num_subsets": 2}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("moving")
    (folder / "files").mkdir()
    moving_digits.prepare(moving_digits.Options(**OPTIONS), folder / "work", folder / "files")
    return folder


@pytest.fixture(params=["vit_st_micro", "vit_micro"])
def cell(request, folder, tmp_path):
    torch.manual_seed(0)
    save_encoder(build_encoder(request.param, 16), tmp_path / "encoder.safetensors")
    (tmp_path / "files").mkdir()

    def of(task):
        settings = yaml.safe_load((PROTOCOLS / f"{task}.yaml").read_text())["demo"]
        settings |= {key: value for key, value in FEW.items() if key in settings}
        return SimpleNamespace(settings=settings, data=folder, encoder=tmp_path / "encoder.safetensors", seed=0,
                               work=tmp_path, files=tmp_path / "files")  # fmt: skip

    return of


def test_few_labels_are_of_videos_and_not_of_their_views(cell):
    told = video_few_labels.evaluate(cell("video_few_labels"))
    assert [record["metric"] for record in told["records"]] == ["few_shot", "top1_n1", "top1_n3"]
    assert all(0 <= record["value"] <= 100 for record in told["records"])
    assert told["cost"]["unit"] == "clips" and told["cost"]["samples"] % 2 == 0, "two views of each"


@pytest.mark.parametrize("task", [video_knn, video_probe, video_finetune])
def test_each_task_measures_both_families(task, cell):
    told = task.evaluate(cell(task.__name__.split(".")[-1]))
    record = told["records"][0]
    assert record["metric"] == "top1" and record["count"] == 8 and 0 <= record["value"] <= 100


def test_an_image_encoder_s_features_are_averaged_over_frames(cell):
    encoder = build_encoder("vit_micro", 16).eval()
    video = torch.randn(2, 3, 8, 16, 16)
    averaged = pool(FrameAverage(encoder).forward_features(video), "mean")
    by_frame = [encoder.forward_features(video[:, :, frame])[:, 1:].mean(1) for frame in range(8)]
    assert torch.allclose(averaged, torch.stack(by_frame).mean(0), atol=1e-5)


def test_scores_are_averaged_over_views(cell):
    settings = cell("video_knn").settings
    clips = Clips(open_eval(cell("video_knn").data, "val", {**settings, "temporal_views": 3, "num_frames": 4}))
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 4 * 256, 2), torch.nn.Softmax(1)).eval()
    averaged = apply_views(model, clips, {**settings, "batch_size": 3})
    assert torch.allclose(averaged[5], model(clips.__getitems__([(0, 5)])["video"]).mean(0), atol=1e-6)


def test_fine_tuning_starts_from_the_pretrained_norm_and_an_inflated_kernel(cell):
    at = cell("video_finetune")
    encoder = load_spacetime(at.encoder, at.settings)
    encoder.norm.weight.data.normal_()
    weight, video = encoder.norm.weight.clone(), torch.randn(4, 3, 8, 16, 16)
    pooled = encoder.eval().norm(encoder.blocks(torch.cat([  # every part by hand
        (encoder.cls_token + encoder.pos_embed_class).expand(4, -1, -1),
        encoder.patch_embed(video) + encoder.pos_embed[:, 1:]], dim=1))[:, 1:].mean(1))  # fmt: skip
    mixing = {"mixup": 0.0, "cutmix": 0.0}
    model = video_finetune.VideoClassifier(encoder, 4, mixing, 0.1, 0.5).eval()
    model.head.weight.data.normal_()
    assert torch.equal(model.fc_norm[0].weight, weight)
    assert torch.allclose(model(video), model.head(pooled), atol=1e-4)
    assert model.head.weight.shape == (4, 96)


def test_mixing_treats_all_frames_of_a_clip_alike():
    torch.manual_seed(0)
    encoder = build_encoder("vit_st_micro", 16)
    model = video_finetune.VideoClassifier(encoder, 4, {"mixup": 0.0, "cutmix": 1.0}, 0.0, 0.0)
    video = torch.arange(4.0).view(4, 1, 1, 1, 1).expand(4, 3, 8, 16, 16)
    mixed, shares = model.mix(video, torch.arange(4), torch.arange(4), torch.rand(4, 4))
    assert mixed.shape == video.shape and (mixed == mixed[:, :1, :1]).all() and not torch.equal(mixed, video)
    assert torch.isfinite(F.cross_entropy(model(mixed), shares))


def test_what_cannot_be_inflated(tmp_path, cell):
    save_encoder(build_encoder("resnet_micro", 16), tmp_path / "resnet.safetensors")
    with pytest.raises(ConfigError, match="family 'resnet', which cannot be inflated"):
        load_spacetime(tmp_path / "resnet.safetensors", cell("video_finetune").settings)
    assert load_frozen(tmp_path / "resnet.safetensors", cell("video_knn").settings).embed_dim == 192
