"""ExSSNeT against slow rewrites; old tasks stay bit for bit; an interruption in any phase changes nothing."""

from types import SimpleNamespace

import pytest
import torch

from pipeline.config import ConfigError
from pipeline.data.kinds import task_stream as kind
from pipeline.data.sources.task_stream import digit_tasks, topic_tasks
from pipeline.engine.objective import Objective
from pipeline.engine.phases import run_phases
from pipeline.nn.families import masked
from pipeline.nn.supermasks import layer_densities, popup
from tests.methods import recipe
from tests.methods.conftest import build


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stream")
    (folder / "files").mkdir()
    digit_tasks.prepare(
        digit_tasks.Options(classes_per_task=None, tasks=None, permutations=3, val_share=0.1, test_share=0.3, seed=0),
        folder / "work", folder / "files",
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def topics(tmp_path_factory):
    folder = tmp_path_factory.mktemp("topics")
    (folder / "files").mkdir()
    options = topic_tasks.Options(num_tasks=2, topics_per_task=3, per_class=43, test_per_class=30, length=12,
                                  own_share=0.5, words_per_topic=10, noise_words=50, vector_width=16,
                                  seed=0)  # fmt: skip
    topic_tasks.prepare(options, folder / "work", folder / "files")
    return folder


class Killed(Exception):
    pass


def learn(stream, work, learner, dies_in=None, model="masked_lenet", num_steps=4, num_tasks=3, num_classes=10):
    """Phases of plain steps without checkpoints; the run ends within one of them where wanted."""
    shape = {"num_tasks": num_tasks, "num_classes": num_classes, "early_steps": 2}
    method = build("exssnet", model=model, learner=learner, transfer="knn_best", **shape)
    settings = recipe("exssnet") | {"model": model}
    settings["options"] |= shape

    def train(phase, *, work, seed, steps_before):
        samples = kind.open_train(stream, phase.settings, 0)
        optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], 0.01, weight_decay=0.0)
        model = Objective(method, 0).train()
        for step in range(num_steps):
            if phase.name == dies_in and step == 2:
                raise Killed
            batch = samples.__getitems__([(0, index) for index in range(32 * step, 32 * step + 32)])
            optimizer.zero_grad()
            model(**batch, mode="loss")["loss"].backward()
            optimizer.step()
            method.after_step()
        return {"seconds": 0.0, "steps": num_steps}

    phases = method.phases(settings, lambda changed: kind.open_train(stream, changed, 0))
    done, _ = run_phases(method, phases, train, work=work, seed=0)
    return done, method.state_dict()


@pytest.mark.parametrize("model", ["masked_lenet", "masked_resnet_micro"])
def test_logits_of_old_tasks_never_change(stream, tmp_path, model):
    done, _ = learn(stream, tmp_path, "exssnet", model=model)
    rows = [phase["result"] for phase in done if "accuracies" in phase["result"]]
    assert len(rows) == 3
    for j in range(3):
        assert len({row["digests"][j] for row in rows[j:]}) == 1
    assert any(phase["result"].get("kept") for phase in done), "nothing was trained that could have interfered"


def test_logits_of_an_old_task_of_texts_never_change(topics, tmp_path):
    def changed(learner):
        done, _ = learn(topics, tmp_path / learner, learner, "none", "masked_text_cnn_micro", 4, 2, 3)
        rows = [phase["result"] for phase in done if "accuracies" in phase["result"]]
        assert len(rows) == 2 and done[-1]["result"]["kept"], "the last task trained nothing that could have interfered"
        return rows[0]["digests"][0] != rows[1]["digests"][0]

    assert not changed("exssnet") and changed("ssnet")


def test_a_text_network_has_the_size_of_the_released_code():
    size = {"net": "text_cnn", "word_width": 768, "width": 200, "kernel_sizes": [3, 4, 5]}
    network = masked.build(size, (32, 32))
    network.grow(1, 1, 14)
    assert sum(layer.weight.numel() for layer in network.layers) == 1_851_600


def test_a_filter_of_a_text_is_its_largest_answer_anywhere():
    torch.manual_seed(0)
    trunk = masked.TextCNN({"word_width": 5, "width": 2, "kernel_sizes": [3]}, (1, 1))
    weight, text = trunk.filters[0].weight.detach()[..., 0], torch.randn(1, 7, 5)
    padded = torch.cat([torch.zeros(1, 5), text[0], torch.zeros(1, 5)])
    answers = [[sum(float(weight[f, :, i] @ padded[at + i]) for i in range(3)) for at in range(7)] for f in range(2)]
    assert trunk(text)[0].tolist() == pytest.approx([max(0.0, *row) for row in answers], abs=1e-5)


def test_overlapping_training_changes_them(stream, tmp_path):
    done, _ = learn(stream, tmp_path, "ssnet")
    rows = [phase["result"] for phase in done if "accuracies" in phase["result"]]
    assert rows[0]["digests"][0] != rows[-1]["digests"][0]


@pytest.mark.parametrize("phase", [f"task {task}, {what}" for task in (1, 2, 3) for what in ("mask", "weights")])
def test_interrupted_in_any_phase_it_ends_with_the_same_bits(stream, tmp_path, phase):
    whole, state = learn(stream, tmp_path / "whole", "exssnet")
    with pytest.raises(Killed):
        learn(stream, tmp_path / "cut", "exssnet", dies_in=phase)
    again, resumed = learn(stream, tmp_path / "cut", "exssnet")
    assert [p["result"] for p in again] == [p["result"] for p in whole]
    assert all(torch.equal(state[name], resumed[name]) for name in state)


@pytest.mark.parametrize("density", [0.02, 0.1, 0.5])
def test_popup_keeps_the_largest_and_passes_gradients_straight(density):
    torch.manual_seed(0)
    scores, slope = torch.randn(7, 11, requires_grad=True), torch.randn(7, 11)
    mask = popup(scores, density)
    order = sorted(range(77), key=lambda i: abs(scores.flatten()[i].item()))
    expected = torch.ones(77)
    expected[order[: int((1 - density) * 77)]] = 0
    assert torch.equal(mask.detach().flatten(), expected)
    (mask * slope).sum().backward()
    assert torch.allclose(scores.grad, slope * scores.detach().sign(), atol=1e-5)


def test_erdos_renyi_keeps_the_whole_density():
    shapes = [(20, 3, 3, 3), (160, 80, 3, 3), (5, 160, 1, 1)]
    found = layer_densities(shapes, 0.1, "erdos_renyi")
    sizes = [torch.Size(shape).numel() for shape in shapes]
    assert sum(share * size for share, size in zip(found, sizes, strict=True)) == pytest.approx(0.1 * sum(sizes))
    assert max(found) <= 1 and found[0] > found[1]


def test_decay_of_shared_weights_is_refused():
    settings = recipe("exssnet")
    settings["train"]["weight_decay"] = 0.1
    with pytest.raises(ConfigError, match=r"train\.weight_decay is 0\.1; expected 0\.0"):
        next(build("exssnet").phases(settings, SimpleNamespace))
