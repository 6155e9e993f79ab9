"""Every setting has a type, and what would ruin a training, or stop it at its end, is refused while planning."""

import inspect
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from pipeline.config import MODELS, PROTOCOLS, RECIPES, ConfigError, flatten, load_study
from pipeline.config.augment import KINDS
from pipeline.config.heads import PROTOCOL_HEAD, RECIPE_HEAD
from pipeline.config.sections import SHARED, section
from pipeline.config.training import NEEDS, SHAPES, Train
from pipeline.config.types import setting

ROOT = Path(__file__).parent.parent
FILES = sorted([*(ROOT / RECIPES).glob("*.yaml"), *(ROOT / PROTOCOLS).glob("*.yaml")])

# Recipe or protocol, what a study changes in it, and what the message says after the value.
REFUSED = [
    ("mae", "train.clip_norm", -5, "expected a number above 0 or null"),
    ("mae", "train.clip_norm", 0, "expected a number above 0 or null"),
    ("mae", "train.min_lr", 0.1, "expected at most the peak rate, 0.0015"),
    ("mae", "train.base_lr", 0, "expected a number above 0"),
    ("mae", "train.base_lr", [1.0], "expected one number"),
    ("mae", "train.betas", [0.9], "expected two fractions of at least 0 and below 1, such as [0.9, 0.95]"),
    ("mae", "train.betas", [0.9, 1.0], "expected two fractions of at least 0 and below 1, such as [0.9, 0.95]"),
    ("mae", "train.optimizer", "sgd", "expected 'momentum' beside it"),
    ("mae", "train.optimizer", "lars", "expected 'momentum' beside it"),
    ("mae", "train.optimizer", "", "expected a word"),
    ("mae", "train.duration", "0.4 steps", "expected a number and a unit, such as '300 steps' or '800 epochs'"),
    ("mae", "train.duration", "1e400 steps", "expected a number and a unit, such as '300 steps' or '800 epochs'"),
    ("mae", "train.duration", "0 epochs", "expected more than none, such as '300 steps'"),
    ("mae", "train.warmup", "9999 steps", "expected at most the duration, 1100 steps"),
    ("mae", "train.accumulate", 3, "expected a divisor of batch_size, 64"),
    ("mae", "train.accumulate", 0, "expected a positive whole number"),
    ("mae", "train.precision", "fp16", "available: ['float32', 'bf16']; did you mean 'bf16'?"),
    ("mae", "train.drop_path", 1, "expected a fraction of at least 0 and below 1"),
    ("mae", "train.weight_decay", -0.05, "expected a number of at least 0"),
    ("mae", "train.num_workers", -1, "expected a whole number of at least 0"),
    ("mae", "train.checkpoint_every", 0, "expected a positive whole number"),
    ("mae", "augment.scale", [1.0, 0.2], "expected [smallest, largest], in this order"),
    ("mae", "augment.scale", [0, 1.0], "expected smallest and largest share of the area, such as [0.2, 1.0]"),
    ("mae", "augment.scale", [0.2, 2.0], "expected smallest and largest share of the area, such as [0.2, 1.0]"),
    ("mae", "augment.ratio", [0.75], "expected smallest and largest width over height, such as [0.75, 1.33]"),
    ("mae", "augment.kind", "crp", "available: ['crop', 'jitter', 'auto', 'clip']; did you mean 'crop'?"),
    ("mae", "augment.flip", 0.5, "expected true or false"),
    ("mae", "options.mask_kind", "blocks", "available: ['uniform', 'block', 'grid']; did you mean 'block'?"),
    ("mae", "options.decoder_depth", 0, "expected a positive whole number"),
    ("dbot", "options.teacher_depth", -1, "expected a whole number of at least 0 or null"),
    ("dbot", "train.eps", 0, "expected a number above 0"),
    ("imae", "options.mix_weight", 1, "expected a fraction above 0 and below 1 or null"),
    ("imae", "options.num_branches", 3, "available: [1, 2]"),
    ("imae", "same_class_share", 1.5, "expected a fraction between 0 and 1"),
    ("clmae", "options.gauss_deviation", 0, "expected a number above 0"),
    ("mixmask", "train.momentum", 1, "expected a fraction of at least 0 and below 1"),
    ("mixmask", "options.temperature", 0, "expected a number above 0"),
    ("mixmask", "views", 1, "available: [2]"),
    ("mixmask", "augment.hue", 0.6, "expected a share of the colour circle, from 0 to 0.5"),
    ("mixmask", "augment.image_size", 0, "expected a positive whole number"),
    ("supervised", "options.label_smoothing", 1, "expected a fraction of at least 0 and below 1"),
    ("supervised", "options.ema_momentum", 1, "expected a fraction of at least 0 and below 1"),
    ("mae_st", "repeats", 0, "expected a positive whole number"),
    ("mae_st", "augment.target_fps", 0, "expected a positive whole number"),
    ("meta_multilabel", "options.threshold_range", [0.95, 0.05], "expected [smallest, largest], in this order"),
    ("meta_multilabel", "options.threshold_range", [0.0, 0.95], "expected [smallest, largest], each a fraction"),
    ("meta_multilabel", "options.reward", "f1", "available: ['margin', 'micro_f1']"),
    ("meta_multilabel", "options.window", 0, "expected a positive whole number"),
    ("meta_multilabel", "options.baseline_momentum", 1, "expected a fraction of at least 0 and below 1"),
    ("meta_multilabel", "episode.duration", "0 steps", "expected more than none, such as '300 steps'"),
    ("elo", "options.weights", "uniform", "available: ['evolved']"),
    ("elo_by_hand", "options.weights", "transfers", "available: ['uniform', 'random', 'reconstruct'"),
    ("elo_by_hand", "options.margin", 0, "expected a number above 0"),
    ("elo_search", "options.search", "cmaess", "available: ['cmaes', 'tournament', 'random', 'grid']"),
    ("elo_search", "options.num_rounds", 0, "expected a positive whole number"),
    ("elo_search", "options.zipf_exponent", 0, "expected a number above 0"),
    ("random", "augment.image_size", "16", "expected a positive whole number"),
    ("video_kmeans", "restarts", 0, "expected a positive whole number"),
    ("video_kmeans", "resize", 15, "expected at least image_size, 16"),
    ("zipf", "num_clusters", 0, "expected a positive whole number"),
    ("zipf", "zipf_exponent", -1, "expected a number above 0"),
    ("finetune", "label_smoothing", 1, "expected a fraction of at least 0 and below 1"),
    ("finetune", "mixup", -0.1, "expected a number of at least 0"),
    ("finetune", "resize", 15, "expected at least image_size, 16"),
    ("finetune", "train.layer_decay", 0, "expected a fraction above 0 and of at most 1"),
    ("linear_probe", "train.trust_coefficient", -1, "expected a number above 0"),
    ("linear_probe", "holdout_share", 0.0, "expected a fraction above 0, of the training samples, to choose between"),
    ("linear_probe", "holdout_share", 1, "expected a fraction of at least 0 and below 1"),
    ("linear_probe", "train.base_lr", 0.1, "expected a list of the rates that are tried"),
    ("linear_probe", "train.base_lr", [], "expected a number above 0, or a list of them to be tried"),
    ("linear_probe", "train.base_lr", [0.1, 0], "expected a number above 0, or a list of them to be tried"),
    ("linear_probe", "train.schedule", "step", "available: ['cosine', 'multistep', 'poly']; did you mean 'multistep'?"),
    ("linear_probe", "train.schedule", "poly", "expected 'power' beside it"),
    ("linear_probe", "train.milestones", [0.8, 0.6], "expected each after the one before"),
    ("linear_probe", "train.milestones", [60, 80], "expected a list of fractions of the duration, such as [0.6, 0.8]"),
    ("linear_probe", "feature", "class", "available: ['class_token', 'mean']; did you mean 'class_token'?"),
    ("knn", "num_neighbours", 0, "expected a positive whole number"),
    ("separability", "shares", [0.5, 1.0], "expected a list, each a fraction above 0 and below 1"),
    ("separability", "shares", 0.5, "expected a list, each a fraction above 0 and below 1"),
    ("detect", "heads.score_threshold", 2, "expected a fraction of at least 0 and below 1"),
    ("detect", "heads.anchor_scale", 0, "expected a positive whole number"),
    ("detect", "jitter", [2.0, 0.1], "expected [smallest, largest], in this order"),
    ("detect", "jitter", [0.1, 1.0, 2.0], "expected [smallest, largest], each a number above 0"),
    ("detect", "pyramid.scales", [3], "available: [4, 2, 1, 0.5, 0.25, 0.125]"),
    ("detect", "vit.relative", None, "available: ['none', 'bias', 'decomposed']"),
    ("detect", "vit.window_size", 0, "expected a positive whole number or null"),
    ("segment", "heads.stride", 0, "expected a positive whole number"),
    ("segment", "crop.crop_size", 47, "expected at least heads.stride, 48"),
    ("segment", "crop.aspect_limit", 0, "expected a number above 0"),
    ("multilabel", "split", "train", "available: ['val', 'test']"),
    ("m3ae", "options.image_mask_ratio", 1.0, "expected a fraction between 0 and 1"),
    ("m3ae", "options.text_weight", -0.5, "expected a number of at least 0"),
    ("m3ae", "text.drop", "never", "available: ['by_index', 'at_random']"),
    ("m3ae", "text.caption_share", 1.5, "expected a fraction between 0 and 1"),
    ("masked_tokens", "text_mask_ratio", 0, "expected a fraction between 0 and 1"),
    ("ood", "num_out_classes", 0, "expected a positive whole number"),
    ("brep_ssl", "options.loss", "mean", "available: ['sum', 'channels']"),
    ("brep_ssl", "num_points", 0, "expected a positive whole number or null"),
    ("face_segmentation", "sizes", [10, 0], "expected a list, each a positive whole number"),
    ("face_segmentation", "sizes", 10, "expected a list, each a positive whole number"),
    ("face_segmentation", "depth", -1, "expected a whole number of at least 0"),
    ("few_labels", "labels_per_class", [5, 0], "expected a list, each a positive whole number"),
    ("video_few_labels", "penalty", 0.0, "expected a number above 0"),
    ("part_classification", "shares", [0.0], "expected a list, each a fraction above 0 and of at most 1"),
    ("exssnet", "options.learner", "ewc", "available: ['exssnet', 'ssnet', 'supsup', 'sequential', 'multitask']"),
    ("exssnet", "options.density", 0, "expected a fraction above 0 and below 1"),
    ("exssnet", "options.density", 1, "expected a fraction above 0 and below 1"),
    ("exssnet", "options.transfer", "knn", "available: ['none', 'knn_best', 'knn_always', 'knn_all']"),
    ("exssnet", "text.length", 0, "expected a positive whole number"),
    ("exssnet", "weight_training.base_lr", 0, "expected a number above 0"),
    ("exssnet", "weight_training.duration", "0 steps", "expected more than none, such as '300 steps'"),
    ("continual", "batch_size", 0, "expected a positive whole number"),
    ("continual", "text.length", "256", "expected a positive whole number"),
    ("video_knn", "spatial_crops", 2, "available: [1, 3]"),
    ("video_finetune", "sampling_rate", -1, "expected a whole number of at least 0"),
    ("video_finetune", "dropout", 1.0, "expected a fraction of at least 0 and below 1"),
]  # fmt: skip


def head_of(path: Path) -> tuple[str, ...]:
    return RECIPE_HEAD if path.parent.name == "recipes" else PROTOCOL_HEAD


def checked(path, scale, changes, where="a.set"):
    raw = yaml.safe_load(path.read_text())
    model = changes.get("model") or raw[scale].get("model") or "vit_micro"
    return section(path.relative_to(ROOT), head_of(path), scale, changes, where, model=model)


@pytest.fixture(autouse=True)
def at_home(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(("name", "key", "value", "told"), REFUSED, ids=lambda value: str(value)[:30])
def test_what_would_ruin_a_cell_is_refused(name, key, value, told):
    (path,) = [path for path in FILES if path.stem == name]
    assert key in flatten(checked(path, "demo", {})), "the recipe itself is taken"
    with pytest.raises(ConfigError) as caught:
        checked(path, "demo", {key: value})
    message = str(caught.value)
    assert message.startswith(f"a.set: {key} is {value!r}; {told}") and "\n" not in message


def test_the_list_of_what_is_refused_reaches_every_recipe_and_protocol_with_settings():
    named = {name for name, *_ in REFUSED}
    kin = {"pretrained", "random_video", "random_image_text", "random_solids", "supervised_video", "maskdistill",
           "video_probe", "meta_transfer"}  # the same types as others  # fmt: skip
    bare = {"solid_reconstruction"}  # nothing to set
    assert {path.stem for path in FILES} - kin - bare == named


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_key_of_every_section_has_a_type_and_every_type_a_key(path):
    """Of each scale, and of each model that it has numbers of its own for."""
    raw = yaml.safe_load(path.read_text())
    types = flatten(raw.get("types", {}))
    for scale in raw.keys() - set(head_of(path)):
        for model in [raw[scale].get("model", "vit_micro"), *raw[scale].get("by_model", {})]:
            settings = flatten(checked(path, scale, {"model": model} if "model" in raw[scale] else {}))
            keys = {key for key, value in settings.items() if value != {} and key.partition(".")[0] not in SHARED}
            assert keys - {"model"} == {key for key in types if key.partition(".")[0] not in SHARED}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_key_without_a_type_and_a_type_without_a_key_are_told(path, tmp_path, monkeypatch):
    raw = yaml.safe_load(path.read_text())
    (tmp_path / MODELS).parent.mkdir()
    (tmp_path / MODELS).symlink_to(ROOT / MODELS)
    monkeypatch.chdir(tmp_path)

    def told(**changes):
        Path("changed.yaml").write_text(yaml.safe_dump(raw | changes))
        with pytest.raises(ConfigError) as caught:
            section(
                Path("changed.yaml"), head_of(path), "demo", {}, "a.set", model=raw["demo"].get("model", "vit_micro")
            )
        return str(caught.value)

    message = told(demo=raw["demo"] | {"novel": 1})
    assert message.startswith("changed.yaml: demo.novel has no type; declare it in changed.yaml: types, as one of ['fl")
    message = told(types=raw.get("types", {}) | {"absent": "count"})
    assert message.startswith("changed.yaml: demo lacks 'absent', which changed.yaml: types has")
    message = told(types=raw.get("types", {}) | {"absent": "cuont"}, demo=raw["demo"] | {"absent": 1})
    assert message.startswith("changed.yaml: types.absent is 'cuont'; available types: ['flag'")
    assert message.endswith("did you mean 'count'?")
    for part in set(SHARED) & set(raw["demo"]):
        message = told(demo=raw["demo"] | {part: raw["demo"][part] | {"unknown": 1}})
        assert message.startswith(f"changed.yaml: demo.{part} has 'unknown'; available keys: [")
        message = told(demo=raw["demo"] | {part: {}})
        assert message.startswith(f"changed.yaml: demo.{part} lacks ")


def test_a_section_may_declare_its_own_keys_where_others_share_theirs(tmp_path, monkeypatch):
    """A new kind of sample has an augmentation of its own without an edit elsewhere."""
    (tmp_path / MODELS).parent.mkdir()
    (tmp_path / MODELS).symlink_to(ROOT / MODELS)
    monkeypatch.chdir(tmp_path)
    head = {"types": {"augment": {"max_length": "count", "drop": "fraction"}}}
    numbers = {"demo": {"augment": {"max_length": 128, "drop": 0.1}}}
    Path("text.yaml").write_text(yaml.safe_dump(head | numbers))
    place = (Path("text.yaml"), RECIPE_HEAD, "demo")
    assert section(*place, {}, "a.set", model="vit_micro") == numbers["demo"]
    with pytest.raises(ConfigError, match=r"a.set: augment.drop is 2; expected a fraction between 0 and 1"):
        section(*place, {"augment.drop": 2}, "a.set", model="vit_micro")


def test_numbers_and_choices_keep_the_form_in_which_they_were_written():
    """A whole number becomes a fraction where one is wanted, so that 1 and 1.0 are one cell; nothing else moves."""
    assert repr(setting("fraction", "x").check(1, "x")) == "1.0"
    assert repr(setting("list of [4, 2, 1, 0.5]", "x").check([4.0, 0.5], "x")) == "[4, 0.5]"
    assert setting("[null, every]", "x").check(None, "x") is None
    assert setting("list of count?", "x").check(None, "x") is None
    assert setting("duration", "x").check("1 step", "x") == "1 step"
    for wrong in ("True", 1, None):
        with pytest.raises(ConfigError, match=r"x is .*; expected true or false"):
            setting("flag", "x").check(wrong, "x")


def test_a_key_that_is_given_twice_is_told_with_its_lines(tmp_path):
    text = (ROOT / "config/demo.yaml").read_text()
    study = tmp_path / "twice.yaml"
    study.write_text(f"{text}\nseeds: [1]\n")
    with pytest.raises(ConfigError, match=r"twice.yaml cannot be read \(it gives 'seeds' twice, in lines 3 and \d+\)"):
        load_study(study)
    study.write_text("a: {lr: 1, lr: 2}\nb: [{lr: 1}, {lr: 1}]\n")
    with pytest.raises(ConfigError, match=r"it gives 'lr' twice, in lines 1 and 1"):
        load_study(study)
    study.write_text("a: &a {lr: 1}\nb: {<<: *a, lr: 2}\nc: {lr: [lr, lr], d: *a, e: *a}\n")
    with pytest.raises(ConfigError, match="lacks 'scale'"):  # what is merged, or a value, is no key given twice
        load_study(study)


def test_methods_declare_the_options_that_they_take():
    from pipeline.methods import load_method

    for path in sorted((ROOT / RECIPES).glob("*.yaml")):
        raw = yaml.safe_load(path.read_text())
        options = {field.name for field in fields(load_method(raw.get("method", path.stem)).Options)}
        assert set(raw.get("types", {}).get("options", {})) == options, path


def test_what_is_shared_is_what_the_engine_takes():
    from pipeline.data.augment import KINDS as TRANSFORMS
    from pipeline.engine.optim import OPTIMIZERS, OPTIONS
    from pipeline.engine.schedules import build_schedule

    assert set(NEEDS) == set(OPTIMIZERS) and set(OPTIONS) <= set(Train.model_fields)
    for name, needs in NEEDS.items():
        assert set(needs) <= set(inspect.signature(OPTIMIZERS[name]).parameters)
    for name in SHAPES:
        build_schedule({"schedule": name, "power": 1.0, "milestones": [0.5], "gamma": 0.1}, 10, 1, 0.1)
    assert set(TRANSFORMS) | {"clip"} == set(KINDS)
    for kind, transform in TRANSFORMS.items():
        taken = inspect.signature(transform).parameters
        assert set(KINDS[kind].model_fields) - {"kind"} == set(taken)
        for name, field in KINDS[kind].model_fields.items():
            if name != "kind" and not field.is_required():
                assert field.default == taken[name].default, "what is left out has one meaning"
