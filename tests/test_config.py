"""Studies and recipes: what is read, and that each mistake is told in one message that helps."""

import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from pipeline import config
from pipeline.config import ConfigError, Duration, Request, load_study
from pipeline.config.study import RESERVED
from pipeline.graph import Graph
from tests.small import DIGITS, MAE, PROTOCOLS, RECIPES, STUDY, changed, load, taught, write_recipe, write_study

KEPT = {"root": None, "expect": None, "max_reject_share": 0.1, "shard_mib": 64}
ROOT = Path(__file__).parent.parent
STUDIES = sorted((ROOT / "config").glob("*.yaml"), key=str)

# Where the study is changed, to what, and what the message must say: received, expected or available, nearest.
MISTAKES = [
    ("scale", ..., ["lacks 'scale'", "required keys: ['scale', 'seeds', 'data', 'runs', 'tasks']"]),
    ("sacle", "demo", ["has 'sacle'", "available keys", "did you mean 'scale'?"]),
    ("scale", "dmo", ["has no section 'dmo'", "available scales: ['demo', 'paper']", "did you mean 'demo'?"]),
    ("scale", ["demo"], ["scale is ['demo']", "expected the name of a section"]),
    ("seeds", 0, ["seeds is 0", "expected a list of whole numbers, such as [0, 1]"]),
    ("seeds", [], ["seeds is []", "expected a list"]),
    ("seeds", ["0"], ["seeds is ['0']", "expected a list"]),
    ("seeds", [True], ["seeds is [True]", "expected a list"]),
    ("seeds", [-1], ["seeds is [-1]", "expected a list"]),
    ("seeds", [2**32], ["seeds is [4294967296]", "each below 2^32"]),
    ("seeds", [0, 1, 0], ["seeds is [0, 1, 0]", "twice"]),
    ("data", [], ["data is []", "expected a mapping"]),
    ("data/pictures", {}, ["data.pictures lacks 'source'", "required keys: ['source']"]),
    ("data/..else", {"source": "digits"}, ["a data set is called '..else'", "expected letters, digits"]),
    ("data/digits/source", "digit", ["data.digits.source is 'digit'", "'imagenet'", "mean 'digits'?"]),
    ("data/digits", {"source": "coco", **KEPT}, ["runs.random reads images, of which the study has no set"]),
    ("data/digits/source", ["digits"], ["data.digits.source is ['digits']", "available sources"]),
    ("data/digits/source", ..., ["data.digits lacks 'source'"]),
    ("data/digits/val_share", 20, ["data.digits.val_share is 20", "expected a fraction above 0 and below 1"]),
    ("data/digits/train_images", 0, ["data.digits.train_images is 0", "positive whole number"]),
    ("data/scenes", ..., ["tasks.detect reads detection, of which the study has no set", "{'digits': 'images'}",
                          "from a source of ['coco', 'scenes_coco']"]),
    ("data/more", {"source": "digits", **DIGITS}, ["runs.random reads images", "['digits', 'more']; say which: r"]),
    ("runs/mae/data", "scenes", ["runs.mae.data is 'scenes', a set of detection; expected images; available: ['dig"]),
    ("runs/mae/data", "digit", ["runs.mae.data is 'digit'", "available sets: ['digits', 'scenes']", "mean 'digits'?"]),
    ("runs", None, ["runs is None", "expected a mapping"]),
    ("runs/mae", "mae", ["runs.mae is 'mae'", "expected a mapping"]),
    ("runs/mae/method", "mea", ["runs.mae.method is 'mea'", "available methods: ['mae', 'random']", "mean 'mae'?"]),
    ("runs/mae/method", ["mae"], ["runs.mae.method is ['mae']", "available methods"]),
    ("runs/mae/method", "base", ["runs.mae.method is 'base'", "available methods: ['mae', 'random']"]),
    ("runs/mae/methods", "mae", ["runs.mae has 'methods'", "'data', 'set', 'seeds', 'teacher'", "mean 'method'?"]),
    ("cluster", {"pretrian": {}}, ["cluster has 'pretrian'", "available stages", "did you mean 'pretrain'?"]),
    ("cluster", {"knn": {"gpu": 1}}, ["cluster.knn has 'gpu'", "did you mean 'gpus'?"]),
    ("cluster", {"knn": {"cpus": 1.5}}, ["cluster.knn.cpus is 1.5; expected a positive whole number"]),
    ("cluster", {"knn": {"nodes": 0}}, ["cluster.knn.nodes is 0; expected a positive whole number"]),
    ("tuning", "config/none.yaml", ["tuning is 'config/none.yaml'; expected the path of another study, of ["]),
    ("tuning", 3, ["tuning is 3; expected the path of another study"]),
    ("runs/mae/cluster", {"knn": {"gpus": -1}}, ["runs.mae.cluster.knn.gpus is -1", "a whole number of at least 0"]),
    ("runs/mae/method", ..., ["runs.mae lacks 'method'"]),
    ("runs/a.b", {"method": "mae"}, ["a run is called 'a.b'", "such as 'mae-r50'"]),
    ("runs/a b", {"method": "mae"}, ["a run is called 'a b'"]),
    ("runs/mae/teacher", "randm", ["runs.mae.teacher is 'randm'", "['random', 'mae', 'mae-r50']", "mean 'random'?"]),
    ("runs/mae/teacher", ["mae"], ["runs.mae.teacher is ['mae']", "available runs"]),
    ("runs/mae/teacher", "random", ["runs.mae.teacher is 'random', but mae learns from no teacher; leave it out"]),
    ("runs/mae/seeds", [0, 5], ["runs.mae.seeds is [0, 5]; expected seeds of the study: [0, 1]"]),
    ("runs/mae/weights", ["mae.pth"], ["runs.mae.weights is ['mae.pth']; expected the path of a file"]),
    ("runs/mae/teacher", "mae", ["the teachers form a cycle (mae <- mae)"]),
    ("tasks", None, ["tasks is None", "expected a mapping"]),
    ("tasks/kn", {"seeds": [0]}, ["tasks has 'kn'", "available tasks: ['detect', 'knn']", "did you mean 'knn'?"]),
    ("tasks/near", {"task": "kn", "seeds": [0]}, ["tasks.near.task is 'kn'", "did you mean 'knn'?"]),
    ("tasks/near", {"seeds": [0]}, ["tasks has 'near'", "an instance of another name says which: tasks.near.task"]),
    ("tasks/report", {"task": "knn", "seeds": [0]}, ["tasks.report has the name of a stage"]),
    ("tasks/knn", {}, ["tasks.knn lacks 'seeds'"]),
    ("tasks/knn/seed", [0], ["tasks.knn has 'seed'", "did you mean 'seeds'?"]),
    ("tasks/knn/seeds", [0, 7], ["tasks.knn.seeds is [0, 7]", "seeds that are pretrained: [0, 1]"]),
    ("tasks/knn/seeds", "0, 1", ["tasks.knn.seeds is '0, 1'", "expected a list"]),
    ("tasks/knn/note", ["a", "b"], ["tasks.knn.note is ['a', 'b']", "expected a sentence"]),
    ("tasks/knn/runs", "mae", ["tasks.knn.runs is 'mae'", "expected a list of runs"]),
    ("tasks/knn/runs", [], ["tasks.knn.runs is []", "expected a list of runs", "['random', 'mae', 'mae-r50']"]),
    ("tasks/knn/runs", ["mae", "mae"], ["tasks.knn.runs is ['mae', 'mae']", "twice"]),
    ("tasks/knn/runs", ["mae-r5"], ["tasks.knn.runs names 'mae-r5'", "did you mean 'mae-r50'?"]),
    ("tasks/knn/runs", [["mae"]], ["tasks.knn.runs names ['mae']", "available runs"]),
    ("tasks/knn/set", {"num_neighbors": 5}, ["'num_neighbors'", "knn.yaml (demo) lacks", "mean 'num_neighbours'?"]),
]  # fmt: skip

# A change of run `mae`, and what the message must say.
CHANGES = [
    ("options.mask_ratio", 75, ["runs.mae.set: options.mask_ratio is 75;", "between 0 and 1 (0.75 hides three"]),
    ("options.mask_ratio", 0, ["mask_ratio is 0;", "fraction between 0 and 1"]),
    ("options.mask_ratio", 1, ["mask_ratio is 1;", "fraction between 0 and 1"]),
    ("options.mask_ratio", True, ["mask_ratio is True", "expected a fraction between 0 and 1 (0.75 hides"]),
    ("options.mask_ratio", None, ["mask_ratio is None", "expected a fraction between 0 and 1 (0.75 hides"]),
    ("options.mask_ratio", "0.6", ["mask_ratio is '0.6'", "expected a fraction"]),
    ("options.mask_ratio", math.nan, ["mask_ratio is nan", "expected a finite number"]),
    ("options.mask_rato", 0.5, ["'options.mask_rato'", "mae.yaml (demo) lacks", "did you mean 'options.mask_ratio'?"]),
    ("options", {"mask_ratio": 0.5}, ["'options'", "lacks", "available: ['model', 'options.mask_ratio'"]),
    ("options.norm_pixels", 1, ["norm_pixels is 1", "expected true or false"]),
    ("train.base_lr", -1e-4, ["train.base_lr is -0.0001", "expected a number above 0"]),
    ("train.base_lr", "1e-4", ["train.base_lr is '1e-4'", "YAML takes 1e-4 for text; write 1.0e-4"]),
    ("train.base_lr", math.inf, ["train.base_lr is inf", "expected a finite number"]),
    ("train.batch_size", 0, ["train.batch_size is 0", "expected a positive whole number"]),
    ("train.batch_size", 25.5, ["train.batch_size is 25.5", "expected a positive whole number"]),
    ("train.batch_size", True, ["train.batch_size is True", "expected a positive whole number"]),
    ("train.betas", [0.9, "0.95"], ["train.betas is [0.9, '0.95']", "two fractions of at least 0 and below 1"]),
    ("train.betas", [0.9, 9.5], ["train.betas is [0.9, 9.5]", "such as [0.9, 0.95]"]),
    ("train.betas", 0.9, ["train.betas is 0.9;", "two fractions of at least 0 and below 1, such as [0.9, 0.95]"]),
    ("train.duration", 800, ["train.duration is 800;", "a number and a unit, such as '300 steps' or '800 epochs'"]),
    ("train.duration", "800", ["train.duration is '800'", "a number and a unit, such as '300 steps' or '800 epochs'"]),
    ("train.duration", "800 hours", ["train.duration is '800 hours'", "a number and a unit"]),
    ("train.duration", "0 steps", ["train.duration is '0 steps'", "expected more than none"]),
    ("train.warmup", "nan epochs", ["train.warmup is 'nan epochs'", "a number and a unit"]),
    ("model", "vit_larg", ["runs.mae.set: model is 'vit_larg'", "['vit_large', 'vit_micro']", "mean 'vit_large'?"]),
    ("model", 3, ["model is 3", "available: ['vit_large', 'vit_micro']"]),
]  # fmt: skip


def check_message(message, fragments):
    for fragment in fragments:
        assert fragment in message
    assert "\n" not in message and not message.startswith("'"), "not one clear line"


@pytest.mark.parametrize(("place", "value", "fragments"), MISTAKES, ids=lambda value: str(value)[:40])
def test_a_mistake_in_a_study_is_told(project, place, value, fragments):
    path = write_study(project, changed(STUDY, place, value))
    with pytest.raises(ConfigError) as caught:
        load_study(path)
    check_message(str(caught.value), fragments)


@pytest.mark.parametrize(("key", "value", "fragments"), CHANGES, ids=lambda value: str(value)[:40])
def test_a_mistaken_change_is_told(project, key, value, fragments):
    path = write_study(project, changed(STUDY, "runs/mae/set", {key: value}))
    with pytest.raises(ConfigError) as caught:
        load_study(path)
    check_message(str(caught.value), fragments)


@pytest.mark.parametrize(
    ("place", "value", "fragments"),
    [
        ("options/mask_ratio", 75, ["mae.yaml: demo.options.mask_ratio is 75", "0.75 hides three patches in four"]),
        ("train/base_lr", "1e-4", ["mae.yaml: demo.train.base_lr is '1e-4'", "write 1.0e-4"]),
        ("train/duration", 300, ["mae.yaml: demo.train.duration is 300", "'300 steps'"]),
        ("model", ..., ["mae.yaml: section demo lacks 'model'"]),
        ("model", "vit_giant", ["mae.yaml: demo: model is 'vit_giant'", "available: ['vit_large', 'vit_micro']"]),
        ("by_model/vit_larg", {}, ["demo.by_model: model is 'vit_larg'", "did you mean 'vit_large'?"]),
        ("by_model/vit_micro", {"train": {"btch_size": 1}},
         ["by_model.vit_micro changes 'train.btch_size'", "section demo lacks", "did you mean 'train.batch_size'?"]),
        ("by_model/vit_micro", {"train": {"batch_size": 0}}, ["train.batch_size is 0", "positive whole number"]),
    ],
)  # fmt: skip
def test_a_mistake_in_a_recipe_is_told_with_its_file(project, place, value, fragments):
    write_recipe(project / "config/recipes/mae.yaml", changed(MAE, place, value))
    with pytest.raises(ConfigError) as caught:
        load()
    check_message(str(caught.value), ["config/recipes/mae.yaml", *fragments])


@pytest.mark.parametrize("version", [None, "1", 1.5])
def test_a_recipe_without_a_version_is_refused(project, version):
    write_recipe(project / "config/recipes/mae.yaml", MAE, version)
    with pytest.raises(ConfigError, match=f"mae.yaml: version is {version!r}; expected a whole number"):
        load()


def test_files_that_cannot_be_read_are_told(project):
    with pytest.raises(ConfigError, match=r"no study config/smal.yaml; available: \['config/small.yaml'\]; did you"):
        load("smal")
    with pytest.raises(ConfigError, match=r"study config cannot be read .*expected a YAML file"):
        load_study("config")
    (project / "config/torn.yaml").write_text("runs: {mae: [")
    with pytest.raises(ConfigError, match=r"torn.yaml is not valid YAML: .*line 2") as caught:
        load("torn")
    assert "\n" not in str(caught.value)
    (project / "config/coded.yaml").write_bytes(b"\xff\xfe\x00scale")
    with pytest.raises(ConfigError, match=r"coded.yaml"):
        load("coded")
    (project / "config/empty.yaml").write_text("")
    with pytest.raises(ConfigError, match=r"empty.yaml is None; expected a mapping"):
        load("empty")


def test_a_task_without_a_list_measures_the_runs_it_applies_to(project):
    """What a model gives and a task needs is said in YAML; who is left out is known with the reason."""
    flat = {"takes": ["images"], "gives": ["features"], "models": {"flat": {"width": 8}}}
    (project / "config/models/flat.yaml").write_text(yaml.safe_dump(flat))
    write_recipe(project / "config/recipes/random.yaml", RECIPES["random"], encoders=["vit", "flat"])
    study = changed(STUDY, "runs/random/set", {"model": "flat"})
    told = "detect needs maps, and flat, of family flat, gives features"
    write_study(project, study)
    with pytest.raises(ConfigError, match=re.escape(f"tasks.detect.runs names 'random', but {told}; runs that it ap")):
        load()
    write_study(project, changed(study, "tasks/detect/runs", ...))
    found = load().tasks
    assert found["detect"].runs == ("mae", "mae-r50") and found["detect"].skipped == {"random": told}
    assert found["knn"].runs == ("random", "mae", "mae-r50") and not found["knn"].skipped
    with pytest.raises(ConfigError, match=f"detect does not apply to random: {told}"):
        Graph(load()).node("detect", "random", 0)


def test_some_encoders_are_measured_by_tasks_that_name_their_run(project):
    family = {
        "takes": ["video"],
        "takes_if_named": ["images"],
        "gives": ["features"],
        "models": {"moving": {"width": 8}},
    }
    (project / "config/models/moving.yaml").write_text(yaml.safe_dump(family))
    write_recipe(project / "config/recipes/random.yaml", RECIPES["random"], encoders=["vit", "moving"])
    study = changed(STUDY, "runs/random/set", {"model": "moving"})
    study = changed(study, "tasks/detect/runs", ["mae"])
    write_study(project, study)
    found = load().tasks["knn"]
    assert found.runs == ("mae", "mae-r50")
    told = "knn gives its encoder images, and moving, of family moving, takes video"
    assert found.skipped == {"random": f"{told}, and images for tasks that list it in their runs"}
    write_study(project, changed(study, "tasks/knn/runs", ["random", "mae"]))
    assert load().tasks["knn"].runs == ("random", "mae")
    write_study(project, changed(study, "tasks/detect/runs", ["random"]))
    with pytest.raises(ConfigError, match="detect needs maps, and moving, of family moving, gives features"):
        load()


def test_a_protocol_may_stand_in_a_study_more_than_once(project):
    again = {"task": "knn", "seeds": [1], "runs": ["mae"], "set": {"num_neighbours": 5}, "data": "digits"}
    write_study(project, changed(STUDY, "tasks/knn-5", again))
    study = load()
    assert study.settings("knn-5", "mae") == study.settings("knn", "mae") | {"num_neighbours": 5}
    node = Graph(study).node("knn-5", "mae", 1)
    assert node.folder == Path("results/small/knn-5/mae-1") and "--task knn-5 " in node.command
    assert (study.title("knn-5"), study.short("knn-5")) == ("k-nearest neighbours (knn-5)", "knn-5")


def test_a_track_holds_who_learned_from_a_kind_and_who_is_measured_on_it(project):
    (track,) = load().tracks.values()
    assert (track.title, track.tasks) == ("images", ("knn", "detect"))
    assert track.runs == ("random", "mae", "mae-r50")


def test_runs_that_no_chain_of_tasks_connects_are_in_tracks_of_their_own(project):
    alone = {"task": "knn", "seeds": [1], "runs": ["mae-r50"], "data": "digits"}
    write_study(project, changed(changed(STUDY, "tasks/knn-5", alone), "tasks/knn/runs", ["random", "mae"]))
    study = load()
    assert {name: (track.runs, track.tasks) for name, track in study.tracks.items()} == {
        "images": (("random", "mae"), ("knn", "detect")),
        "images, digits": (("mae-r50",), ("knn-5",)),
    }
    chain = replace(study.tasks["detect"], runs=("mae-r50", "mae"))
    assert list(replace(study, tasks=dict(study.tasks) | {"detect": chain}).tracks) == ["images"]
    unmeasured = replace(study, tasks={name: task for name, task in study.tasks.items() if name != "knn-5"})
    assert unmeasured.tracks["images"].runs == ("random", "mae", "mae-r50")


def test_a_kind_that_no_task_is_of_has_no_track(project):
    study = load()
    sounding = replace(study.runs["mae-r50"], data=replace(study.runs["mae-r50"].data, kind="audiovisual"))
    other = replace(study, runs=dict(study.runs) | {"mae-r50": sounding})
    assert list(other.tracks) == ["images"]
    assert list(replace(other, tasks={}).tracks) == ["images", "audiovisual"]


def test_a_circle_of_teachers_is_named_run_by_run(project):
    runs = {name: {"method": "mae", "teacher": teacher} for name, teacher in (("a", "b"), ("b", "c"), ("c", "a"))}
    write_study(project, changed(changed(STUDY, "tasks", {}), "runs", runs))
    with pytest.raises(ConfigError, match=re.escape("a cycle (a <- b <- c <- a); one run of it must learn without")):
        load()


def test_a_teacher_has_to_fit(project):
    """A method that learns from another run names one, of a method it can learn from, at its own seeds."""
    study = taught(project, "random")

    def message(study):
        write_study(project, study)
        with pytest.raises(ConfigError) as caught:
            load()
        return str(caught.value)

    told = message(changed(study, "runs/mae/teacher", ...))
    check_message(told, ["runs.mae lacks a teacher, which dbot learns from", "runs that fit: ['random', 'mae-r50']"])
    told = message(changed(study, "runs/random/seeds", [1]))
    check_message(told, ["runs.mae has the seeds [0, 1] and its teacher 'random' [1]", "learns from its own teacher"])
    write_recipe(project / "config/recipes/dbot.yaml", MAE, teacher=["mae"])
    told = message(study)
    check_message(told, ["runs.mae.teacher is 'random', a run of random; dbot learns from mae", "['mae-r50']"])
    write_study(project, changed(study, "runs/mae/teacher", "mae-r50"))
    assert load().runs["mae"].teacher == "mae-r50"
    released = changed(changed(study, "runs/mae/teacher", ...), "runs/mae/weights", "dbot.pth")
    write_study(project, released)  # what was trained elsewhere needs no teacher
    assert load().settings("pretrain", "mae")["weights"] == "dbot.pth"
    assert "weights" not in load().settings("pretrain", "mae-r50")


def test_a_method_trains_encoders_of_its_families(project):
    write_recipe(project / "config/recipes/mae.yaml", MAE, encoders=["resnet"])
    with pytest.raises(ConfigError) as caught:
        load()
    check_message(str(caught.value), ["runs.mae: model is 'vit_micro', of family 'vit'; mae trains resnet: []"])


def test_a_run_may_have_fewer_seeds(project):
    write_study(project, changed(STUDY, "runs/mae-r50/seeds", [1]))
    study = load()
    cells = [cell for cell in study.cells() if cell[1] == "mae-r50"]
    assert cells == [("pretrain", "mae-r50", 1), ("knn", "mae-r50", 1)]
    assert study.seeds_of("knn", "mae") == (0, 1) and study.seeds_of("detect", "mae") == (0,)


def test_a_chain_of_teachers_is_no_circle(project):
    write_recipe(project / "config/recipes/dbot.yaml", MAE, teacher="any")
    runs = {
        "r": {"method": "random"},
        "d1": {"method": "dbot", "teacher": "r"},
        "d2": {"method": "dbot", "teacher": "d1"},
    }
    write_study(project, changed(changed(STUDY, "tasks", {}), "runs", runs))
    assert [run.teacher for run in load().runs.values()] == [None, "r", "d1"]


def test_changes_reach_the_settings_and_nothing_else_moves(project):
    plain, halved = (load().settings("pretrain", run) for run in ("mae", "mae-r50"))
    numbers = {k: v for k, v in MAE.items() if k != "by_model"}
    assert plain == {"version": 1, "method": "mae", "data": "digits", "threads": 1, **numbers}
    assert halved["options"].pop("mask_ratio") == 0.5 and plain["options"].pop("mask_ratio") == 0.75
    assert halved == plain


def test_a_whole_number_may_stand_for_a_fraction_and_an_open_value_stays_open(project):
    study = changed(STUDY, "runs/mae/set", {"train.base_lr": 1, "train.betas": [0, 0.5]})
    write_study(project, changed(study, "tasks/detect/set", {"window_size": None}))
    settings = load().settings("pretrain", "mae")["train"]
    assert (settings["base_lr"], settings["betas"]) == (1.0, [0.0, 0.5])
    assert load().settings("detect", "mae")["window_size"] is None


def test_numbers_that_go_with_a_model_are_overlaid_and_a_change_outranks_them(project):
    write_study(project, changed(STUDY, "runs/mae/set", {"model": "vit_large", "train.batch_size": 32}))
    study = load()
    assert study.settings("pretrain", "mae")["train"] == MAE["train"] | {"duration": "200 epochs", "batch_size": 32}
    assert study.settings("detect", "mae")["layer_decay"] == 0.8, "a protocol follows the model of the run"
    assert study.settings("detect", "random")["layer_decay"] == 0.7
    assert "by_model" not in study.settings("detect", "mae")


def test_settings_are_copies(project):
    study = load()
    study.settings("pretrain", "mae")["train"]["betas"].append(7)
    assert study.settings("pretrain", "mae")["train"]["betas"] == [0.9, 0.95]


def test_a_file_that_changes_is_read_again(project):
    before = load().settings("knn", "mae")["num_neighbours"]
    write_recipe(project / "config/tasks/knn.yaml", PROTOCOLS["knn"] | {"num_neighbours": 5})
    assert (before, load().settings("knn", "mae")["num_neighbours"]) == (20, 5)


def test_available_methods_have_a_module_and_a_recipe(project):
    write_recipe(project / "config/recipes/dream.yaml", RECIPES["random"])
    assert config.available_methods() == ["mae", "random"]


@pytest.mark.parametrize(
    ("text", "num_samples", "batch_size", "steps"),
    [
        ("300 steps", 10, 1000, 300),
        ("1 step", 10, 2, 1),
        ("2 epochs", 1000, 256, 6),  # three whole batches an epoch, the rest is dropped
        ("1 epoch", 255, 256, 1),  # never none
        ("0.5 epochs", 2560, 256, 5),
        ("0 steps", 10, 1, 0),
        ("800 epochs", 1_281_167, 4096, 800 * 312),
    ],
)
def test_durations_become_steps(text, num_samples, batch_size, steps):
    assert Duration.parse(text).steps(num_samples, batch_size) == steps


@pytest.mark.parametrize(
    "text", ["800", "epochs", "800epochs", "-1 steps", "inf steps", "nan epochs", "3 images", "", None, 3]
)
def test_what_is_no_duration_is_told_under_its_key(text):
    with pytest.raises(ConfigError, match=re.escape(f"warmup is {text!r}; expected a number and a unit")):
        Duration.parse(text, "warmup")


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_loads_and_holds_the_cells_its_grid_implies(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    study = load_study(path.relative_to(ROOT))
    raw = yaml.safe_load(path.read_text())
    seeds = {name: run.get("seeds", raw["seeds"]) for name, run in raw["runs"].items()}
    expected = sum(map(len, seeds.values()))
    for name, task in raw["tasks"].items():
        expected += sum(len(set(task["seeds"]) & set(seeds[run])) for run in study.tasks[name].runs)
    cells = list(study.cells())
    assert len(cells) == len(set(cells)) == expected
    folders = {Graph(study).node(*cell).folder for cell in cells}
    assert len(folders) == expected, "two cells would publish to one folder"


def test_every_method_of_the_demo_is_tuned_alike(monkeypatch):
    """Half, once and twice the demo's rate, on sets that differ from the demo's in what keeps its scans out."""
    monkeypatch.chdir(ROOT)
    demo = load_study("config/demo.yaml")
    tuning = load_study(str(demo.tuning))
    for name, spec in tuning.data.items():
        shown, changed = demo.data[name.removesuffix("-held")], {"held_share", "seed"}
        assert name.endswith("-held") and spec.source == shown.source
        assert {k: v for k, v in spec.options.items() if k not in changed} == {
            k: v for k, v in shown.options.items() if k not in changed
        }
        assert spec.options.get("held_share") == 0.28 or spec.options["seed"] != shown.options["seed"]
    trained = {run.method for run in demo.runs.values() if "train" in demo.settings("pretrain", run.name)}
    # The search's and the hand-set network's rate is that of ELo, the transfer's that of what it transfers.
    for method in trained - {"elo_search", "elo_by_hand", "meta_transfer"}:
        runs = [name for name, run in tuning.runs.items() if run.method == method]
        settings = [tuning.settings("pretrain", name) for name in runs]
        rates = [one["train"].pop("base_lr", None) or one["train"].pop("lr") for one in settings]
        assert settings[0] == settings[1] == settings[2] and len(runs) == 3
        assert rates == [pytest.approx(times * rates[1]) for times in (0.5, 1, 2)]
        used = [demo.settings("pretrain", name)["train"] for name, run in demo.runs.items() if run.method == method]
        assert rates[1] in [one.get("base_lr") or one.get("lr") for one in used]
        assert any(set(runs) <= set(task.runs) for task in tuning.tasks.values()), f"nothing measures {method}"


def test_the_quick_studys_numbers_are_some_of_the_demos(monkeypatch):
    monkeypatch.chdir(ROOT)
    quick, demo = (load_study(f"config/{name}.yaml") for name in ("quick", "demo"))
    for stage, run, seed in quick.cells():
        assert (stage, run, seed) in demo.cells() and quick.settings(stage, run) == demo.settings(stage, run)


def test_one_name_of_a_data_set_means_one_data_set(monkeypatch):
    monkeypatch.chdir(ROOT)
    seen = {}
    for path in STUDIES:
        for spec in load_study(path.relative_to(ROOT)).data.values():
            content = (spec.source, dict(spec.options))
            assert seen.setdefault(spec.name, content) == content, f"{path.stem} has another data/{spec.name}"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "config").glob("recipes/*.yaml")) + sorted((ROOT / "config").glob("tasks/*.yaml")),
    ids=lambda path: path.stem,
)  # fmt: skip
def test_every_scale_of_a_recipe_has_the_same_keys(path, monkeypatch):
    """A number one scale lacks would be a default hidden in the code."""
    monkeypatch.chdir(ROOT)
    raw = yaml.safe_load(path.read_text())
    keys = {scale: keys_of(section) for scale, section in raw.items() if scale in ("demo", "paper")}
    everything = set().union(*keys.values())
    # Numbers of one kind of augmentation, or of one optimiser, only.
    colours = ("brightness", "contrast", "saturation", "hue", "jitter_share", "grey_share", "blur_share")
    kind_of_crop = {f"augment.{key}" for key in ("policy", "erase_ratio", *colours)}
    for scale, own in keys.items():
        lacking = sorted(everything - own - kind_of_crop)
        assert not lacking, f"{scale} of {path.name} lacks {lacking}"
    assert {"demo", "paper"} <= set(keys)


def keys_of(section, prefix=""):
    keys = set()
    for key, value in section.items():
        if key != "by_model":
            keys |= keys_of(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {prefix + key}
    return keys


def test_every_method_and_every_protocol_is_known(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert set(config.available_methods()) == {path.stem for path in (ROOT / "config/recipes").glob("*.yaml")}
    assert set(config.available_tasks()) == {path.stem for path in (ROOT / "config/tasks").glob("*.yaml")}


def test_planning_imports_no_torch():
    """`snakemake -n` and `dvc status` must answer at once."""
    imports = "\n".join(re.findall(r"^(?:from pipeline|import).*$", (ROOT / "Snakefile").read_text(), re.MULTILINE))
    assert "pipeline.config" in imports
    code = f"""{imports}
import sys
from pipeline import cell, plan
import stages, stages.plan, stages.record
study = load_study("config/demo.yaml")
plan.resolve(study)
heavy = {{"torch", "numpy", "timm", "mmengine", "mmdet", "mmseg", "PIL", "sklearn", "matplotlib"}} & set(sys.modules)
sys.exit(f"planning imports {{sorted(heavy)}}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_run_may_ask_more_of_a_cluster_than_its_study(project):
    place = changed(STUDY, "cluster", {"pretrain": {"gpus": 8}, "knn": {"gpus": 1}})
    place = changed(place, "runs/mae/cluster", {"pretrain": {"nodes": 2, "gpus": 8, "hours": 24}})
    study = load_study(write_study(project, place))
    assert study.request("pretrain", "mae") == Request(nodes=2, gpus=8, hours=24)
    assert study.request("pretrain", "random") == Request(gpus=8)
    assert study.request("knn", "mae") == Request(gpus=1)
    assert study.request("detect", "mae") == Request()


def test_no_study_reaches_a_folder_of_the_project(project, tmp_path):
    """Neither by its name nor by `make clean`, whatever that is told."""
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    kept = [tmp_path / path for path in ("reports/templates", "results/other", "work/data", "work/uv", "logs/slurm")]
    for folder in (*kept, tmp_path / "results/small"):
        folder.mkdir(parents=True)
    for name in (*RESERVED, "", ".", "..", "/", "other ../..", "$(HOME)", "a;b", "-rf", "*"):
        if name in RESERVED:
            write_study(project, STUDY, name)
            with pytest.raises(ConfigError, match=f"is called '{name}', as a folder of the project"):
                load(name)
        done = subprocess.run(["make", "clean", f"STUDY={name}"], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode != 0 and "expected the name of a study" in done.stderr, name
    subprocess.run(["make", "clean", "STUDY=small"], cwd=tmp_path, check=True, capture_output=True)
    assert all(folder.is_dir() for folder in kept) and not (tmp_path / "results/small").exists()


def test_a_run_of_weights_that_others_trained_names_them(project):
    write_recipe(project / "config/recipes/pretrained.yaml", {"model": "vit_micro", "options": {}}, needs_weights=True)
    study = changed(STUDY, "runs/mae", {"method": "pretrained"})
    write_study(project, study)
    with pytest.raises(ConfigError, match=r"runs.mae lacks 'weights': pretrained makes none itself; expected the path"):
        load()
    write_study(project, changed(study, "runs/mae/weights", "vit.safetensors"))
    assert load().settings("pretrain", "mae")["weights"] == "vit.safetensors"
