"""One step of everything that `config/paper.yaml` names: real widths and image sizes, but two blocks and two samples.

Minutes long, hence `-m slow`, and in float32, since few CPUs are quick in bfloat16. Batches are read and transformed as
the recipes and protocols say, by workers as in a real run, if fewer.
"""

import io
import json
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch.utils.data import DataLoader

from pipeline.config import available_tasks, load_study
from pipeline.data.images import as_it_is
from pipeline.data.kinds import load_kind
from pipeline.data.packed import PackWriter
from pipeline.data.sources.audiovisual import moving_sounds, sounding_videos
from pipeline.data.sources.image_text import captioned_digits, captions
from pipeline.data.sources.solids import hardware, machined
from pipeline.data.sources.task_stream import topic_tasks
from pipeline.data.sources.text import typed_mentions
from pipeline.data.sources.video import moving_digits
from pipeline.data.streams import divide, write_stream
from pipeline.data.transforms import normalised
from pipeline.engine.objective import Objective
from pipeline.engine.optim import build_optimizer
from pipeline.engine.pretrain import save_method
from pipeline.engine.runner import Precision
from pipeline.manifest import publish
from pipeline.methods import build_method
from pipeline.methods.base import Context
from pipeline.nn.encoders import build_encoder, save_encoder
from tests.real import ROOT
from tests.tasks.captioned import PHRASES
from tests.tasks.dense.scenes import write_detection, write_segmentation

pytestmark = pytest.mark.slow
RAW = yaml.safe_load((ROOT / "config/paper.yaml").read_text())
RECIPES = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "config/recipes").glob("*.yaml")}
HEADS = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "config/tasks").glob("*.yaml")}
TRAINED = [name for name, run in RAW["runs"].items() if "train" in RECIPES[run["method"]]["paper"]]
DEPTH = 2  # blocks of every encoder; a ResNet's stages have one each
NUM_WORKERS = 2  # of a loader; the papers' 12 are for real machines
STREAMS = ((5, 2), (5, 20), (20, 5), (10, 20))  # tasks and classes of each
TEXT_STREAMS = ((5, 14), (5, 3))
TOPICS = {"per_class": 2, "test_per_class": 2, "length": 12, "own_share": 0.5, "words_per_topic": 5, "noise_words": 20,
          "vector_width": 300, "seed": 0}  # fmt: skip
CLASSES = {"text": 25}  # of the sets made here; those of other kinds have at most 3
WHOLE = (
    "continual",
    "face_segmentation",
    "masked_tokens",
    "multilabel",
    "solid_reconstruction",
)  # tasks that measure more of a run than its encoder
# What makes a training long or large, wherever it stands in a section.
SHORT = {"duration": "1 steps", "warmup": "0 steps", "batch_size": 2, "accumulate": 1, "num_workers": NUM_WORKERS,
         "precision": "float32", "checkpoint_every": 1, "log_every": 1, "eval_batch_size": 2, "num_pairs": 40,
         "num_pictures": 1, "holdout_share": 0.25, "temporal_views": 2, "num_out_classes": 1, "num_subsets": 1,
         "max_epochs": 2, "num_clusters": 2, "num_samples": 8, "sizes": [4], "shares": [0.5],
         "labels_per_class": [1]}  # fmt: skip
CLIPS = {"train_clips": 8, "val_clips": 4, "directions": 2, "image_size": 96, "num_frames": 20, "val_share": 0.28,
         "scale": (0.6, 0.9), "path": (0.4, 0.7), "contrast": 0.4, "colour": 1.0, "noise": 0.02, "seed": 0}  # fmt: skip

SOUNDS = {**CLIPS, "num_frames": 64, "zipf_exponent": 1.0, "silent_share": 0.0, "flow_size": 32, "mel_bands": 80}

CAPTIONS = {"train_images": 20, "val_images": 10, "num_texts": 4, "image_size": 96,
            "photos": ("brick", "grass"), "colours": ("red", "blue", "white"),
            "ground": 0.5, "window": 96, "scale": (0.55, 0.75), "shift": 0.15, "rotation": 10.0, "shear": 0.1,
            "phrases": PHRASES, "silent_share": 0.2, "vocabulary_size": 70, "val_share": 0.28, "seed": 0}  # fmt: skip

MENTIONS = {"train_items": 40, "val_items": 8, "test_items": 8, "zipf": 1.0, "two_share": 0.3, "context": 6,
            "own_share": 0.4, "sibling_share": 0.3, "words_per_leaf": 8, "noise_words": 50, "vocabulary_size": 500,
            "seed": 0}  # fmt: skip

SAMPLED = {"val_share": 0.4, "num_reference": 500, "num_points": 500, "near_share": 0.4, "num_workers": 1, "seed": 0}
MACHINED = {"parts": 10, "features": (1, 1), "kinds": None, **SAMPLED}
HARDWARE = {"parts_per_class": 5, **SAMPLED}


def shortened(section):
    """A section with a step for its training, and blocks that shallow encoders have."""
    found = {}
    for key, value in section.items():
        if isinstance(value, dict):
            value = shortened(value)
        elif key == "taps" and value is not None and len(value) == 4:
            value = [0, 0, 1, 1]
        elif key == "global_blocks" and value:
            value = [1]
        found[key] = SHORT.get(key, value)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The project with shallow models, and a tiny set of each kind in place of the real ones."""
    root = tmp_path_factory.mktemp("paper")
    (root / "config").mkdir()
    for name in ("recipes", "tasks", "paper.yaml"):
        (root / "config" / name).symlink_to(ROOT / "config" / name)
    (root / "config/models").mkdir()
    for path in (ROOT / "config/models").glob("*.yaml"):
        family = yaml.safe_load(path.read_text())
        for size in family["models"].values():
            if path.stem == "text":
                size["num_words"] = 1000
                continue
            size |= {"layers": [1, 1, 1, 1]} if path.stem in ("resnet", "masked", "r2plus1d") else {"num_blocks": DEPTH}
            if path.stem == "r2plus1d":  # ELo's four networks see a clip in four ways: minutes a step at full width
                size["channels"] = [width // 4 for width in size["channels"]]
        (root / "config/models" / path.name).write_text(yaml.safe_dump(family))
    files = root / "images/files"
    files.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 48)):
        with PackWriter(files, split, 2**20) as pack:
            for number in range(count):
                height, width = 90 + 7 * (number % 5), 130 - 9 * (number % 4)
                buffer = io.BytesIO()
                Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(buffer, "JPEG")
                pack.add(f"{number}.jpg", buffer.getvalue(), label=number % 3, height=height, width=width)
    (files / "classes.json").write_text(json.dumps(["none", "one", "two"]))
    write_detection(root / "detection/files", num_images=2)
    write_segmentation(root / "segmentation/files", num_images=2)
    (root / "video/files").mkdir(parents=True)
    moving_digits.prepare(moving_digits.Options(**CLIPS), root / "work", root / "video/files")
    write_clips_with_sound(root)
    write_captions(root / "image_text/files", root / "work", root / "captioned")
    (root / "text/files").mkdir(parents=True)
    typed_mentions.prepare(typed_mentions.Options(**MENTIONS), root / "work-text", root / "text/files")
    for name, source, options in (("solids", machined, MACHINED), ("fabwave", hardware, HARDWARE)):
        (root / name / "files").mkdir(parents=True)
        source.prepare(source.Options(**options), root / f"work-{name}", root / name / "files")
    for num_tasks, num_classes in STREAMS:
        write_tasks(root / f"stream-{num_tasks}x{num_classes}/files", num_tasks, num_classes)
    for num_tasks, num_classes in TEXT_STREAMS:
        name = f"stream-{num_tasks}x{num_classes}"
        (root / name / "files").mkdir(parents=True)
        options = topic_tasks.Options(num_tasks=num_tasks, topics_per_task=num_classes, **TOPICS)
        topic_tasks.prepare(options, root / f"work-{name}", root / name / "files")
    return root


def write_tasks(files, num_tasks, num_classes):
    """A stream of images of noise, some of each class in each split."""
    files.mkdir(parents=True)
    rng, classes = np.random.default_rng(0), [f"class {number}" for number in range(num_tasks * num_classes)]
    for split in ("train", "val", "test"):
        with PackWriter(files, split, 2**20) as pack:
            for number in range(3 * len(classes)):
                buffer = io.BytesIO()
                Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(buffer, "PNG")
                pack.add(f"{number}.png", buffer.getvalue(), label=number % len(classes), height=32, width=32)
    (files / "classes.json").write_text(json.dumps(classes))
    write_stream(files, divide(classes, num_classes, None, None, 0))


def write_clips_with_sound(root):
    """The two sets of ELo in the layouts of Kinetics and HMDB51, of the same videos, prepared as the study says."""
    raw = root / "raw"
    moving_sounds.write(moving_sounds.Options(**SOUNDS), raw / "clips-with-sound")
    (raw / "hmdb51/splits").mkdir(parents=True)
    for split, use in (("train", 1), ("val", 2)):
        for path in sorted((raw / "clips-with-sound" / split).glob("*/*.mp4")):
            name = path.parent.name
            (raw / "hmdb51" / name).mkdir(exist_ok=True)
            (raw / "hmdb51" / name / f"{path.stem}.avi").hardlink_to(path)
            with open(raw / f"hmdb51/splits/{name}_test_split1.txt", "a") as listed:
                listed.write(f"{path.stem}.avi {use} \n")
    for name in ("clips-with-sound", "hmdb51"):
        told = {key: value for key, value in RAW["data"][name].items() if key != "source"}
        options = sounding_videos.Options(**told | {"root": str(raw / name), "max_reject_share": 0.0, "num_workers": 1})
        (root / name / "files").mkdir(parents=True)
        sounding_videos.prepare(options, root / f"work-{name}", root / name / "files")


def data_of(folder, data, settings):
    """The tiny set in place of a real one: by its name, by its number of tasks, or that of its kind."""
    if data.kind == "task_stream":
        return folder / "stream-{num_tasks}x{num_classes}".format_map(settings["options"])
    return folder / data.name if (folder / data.name).exists() else folder / data.kind


def write_captions(files, work, root):
    """Captioned images with a vocabulary as large as BERT's, most of whose words nobody says."""
    captioned_digits.write(captioned_digits.Options(**CAPTIONS), root)
    words = (root / "vocab.txt").read_text()
    more = "".join(f"word{number}\n" for number in range(30522 - CAPTIONS["vocabulary_size"]))
    (root / "vocab.txt").write_text(words + more)
    files.mkdir(parents=True)
    written = {"root": str(root), "layout": "webdataset", "vocabulary": str(root / "vocab.txt"), "texts": None,
               "val_share": 0.0, "expect": None, "max_reject_share": 0.0, "num_workers": 1, "shard_mib": 1}  # fmt: skip
    captions.prepare(captions.Options(**written), work, files)


@pytest.fixture
def study(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return load_study("config/paper.yaml")


class Taught:
    """A run of the study as a teacher, as it was initialised."""

    def __init__(self, study, run):
        self.settings, self.kind = study.settings("pretrain", run), study.runs[run].data.kind

    def encoder(self, grid):
        model, patch = self.settings["model"], 14 if "huge" in self.settings["model"] else 16
        patch = 14 if self.settings["model"] == "clip_large" else patch
        return build_encoder(model, (grid[0] * patch, grid[1] * patch)).eval().requires_grad_(False)

    def whole(self):
        num_classes = CLASSES.get(self.kind, 3)
        context = Context(num_classes=num_classes, num_steps=1, batch_size=self.settings["train"]["batch_size"])
        return build_method(self.settings, context).eval().requires_grad_(False)


def kind_of(run):
    return RECIPES[RAW["runs"][run]["method"]]["kind"]


def measured():
    """(task, run), one run for each model that a protocol measures; its other instances differ in numbers alone."""
    found = {}
    for task, entry in RAW["tasks"].items():
        protocol = entry.get("task", task)
        for name in entry.get("runs", [run for run in TRAINED if kind_of(run) == HEADS[protocol]["kind"]]):
            run = RAW["runs"][name]
            model = run.get("set", {}).get("model", RECIPES[run["method"]]["paper"]["model"])
            found.setdefault((protocol, model), (task, name))
    return list(found.values())


@pytest.mark.parametrize("run", TRAINED)
def test_a_run_takes_a_step(study, folder, run):
    settings = study.settings("pretrain", run)
    train, teacher = settings["train"], study.runs[run].teacher
    kind = load_kind(study.runs[run].data.kind)
    samples = kind.open_train(data_of(folder, study.runs[run].data, settings), settings, seed=0)
    torch.manual_seed(0)
    context = Context(
        num_classes=CLASSES.get(study.runs[run].data.kind, 3),
        num_steps=100,
        batch_size=train["batch_size"],
        teacher=Taught(study, teacher) if teacher else None,
    )
    method = build_method(settings, context)
    few = [[(0, 0)]] if getattr(samples, "repeats", 1) > 1 else [[(0, 0), (0, 5)]]
    (batch,) = DataLoader(samples, batch_sampler=few, collate_fn=as_it_is, num_workers=NUM_WORKERS)
    optimizer = build_optimizer(method, train.get("base_lr") or train["lr"], train)
    clip = None if train["clip_norm"] is None else {"max_norm": train["clip_norm"]}
    wrapper = Precision(optimizer, 1, "float32", clip_grad=clip)
    model = Objective(method, seed=0).train()
    before = {name: parameter.clone() for name, parameter in method.named_parameters() if parameter.requires_grad}
    losses = model.train_step(batch, wrapper)
    model.after_step()
    assert torch.isfinite(losses["loss"])
    after = dict(method.named_parameters())
    assert all(torch.isfinite(after[name]).all() for name in before)
    assert sum(not torch.equal(after[name], value) for name, value in before.items()) > 0.8 * len(before)
    given = batch[kind.KEY]  # solids are no tensor
    features = method.exported().eval().forward_features(normalised(given) if torch.is_tensor(given) else given)
    assert torch.isfinite(features).all()


def publish_untrained(folder, files, recipe, whole, num_classes):
    """A run as it was initialised: its encoder, and all of it where a task looks at more."""
    files.mkdir(parents=True)
    if whole:
        method = build_method(recipe, Context(num_classes=num_classes, num_steps=1, batch_size=2))
        save_method(method, files / "method.safetensors")
    if recipe["method"] == "exssnet":
        num = recipe["options"]["num_tasks"]
        same = {"accuracies": [0.5] * num, "digests": ["same"] * num, "early": [0.5] * num, "initial": [0.5] * num}
        told = [{"name": f"task {task + 1}", "steps": 1, "result": {"task": task, **same}} for task in range(num)]
        (files / "phases.json").write_text(json.dumps(told))
    encoder = method.encoder if whole else build_encoder(recipe["model"], recipe.get("augment", {}).get("image_size"))
    save_encoder(encoder, files / "encoder.safetensors")
    publish(folder, files, {"settings": recipe})


@pytest.mark.parametrize("task, run", measured())
def test_a_protocol_is_followed_to_its_end(study, folder, tmp_path, task, run):
    protocol = study.tasks[task].protocol
    settings = shortened(study.settings(task, run))
    torch.manual_seed(0)
    recipe = study.settings("pretrain", run)
    num_classes = CLASSES.get(study.tasks[task].data.kind, 3)
    publish_untrained(tmp_path / "run", tmp_path / "made/files", recipe, protocol in WHOLE, num_classes)
    files = tmp_path / "files"
    files.mkdir()
    cell = SimpleNamespace(
        settings=settings,
        data=data_of(folder, study.tasks[task].data, recipe),
        encoder=tmp_path / "run/files/encoder.safetensors",
        work=tmp_path,
        files=files,
        seed=0,
        name=run,
        run=study.runs[run],
        stage=task,
        study=study,
        encoder_teacher=None,
    )
    found = import_module(f"pipeline.tasks.{protocol}").evaluate(cell)
    assert found["records"] and all(np.isfinite(record["value"]) for record in found["records"])


def test_every_task_of_the_project_is_tried():
    assert {RAW["tasks"][task].get("task", task) for task, _ in measured()} == set(available_tasks())
