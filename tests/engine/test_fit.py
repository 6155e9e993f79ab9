import json
import signal
from threading import Event
from time import sleep

import pytest
import torch

from pipeline.config import ConfigError
from pipeline.engine import checkpoint
from pipeline.engine.checkpoint import CheckpointError, stored
from pipeline.engine.hooks import TrainingError
from pipeline.engine.preemption import EXIT_CODE, Preempted
from tests.engine.conftest import Numbers, Small


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


class Interrupting(Numbers):
    """Raises, or does something else, when the batch of a step is asked for."""

    def __init__(self, step, action):
        super().__init__()
        self.step, self.action = step, action

    def __getitems__(self, samples):
        if len(self.seen) == self.step + 1:  # one batch more is seen where FLOPs are counted
            self.action()
        return super().__getitems__(samples)


def crash():
    raise KeyboardInterrupt


def terminate():
    signal.raise_signal(signal.SIGTERM)


def test_training_lowers_the_loss_and_logs_every_step(train):
    _, lines, cost = train(steps=120, dropout=0.0, every=60)
    losses = [json.loads(line)["loss"] for line in lines]
    assert len(losses) == 120 and losses[-1] < 0.2 * losses[0]
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 121))
    assert cost["samples"] == 120 * 16 and cost["unit"] == "images"
    assert cost["samples_per_second"] == pytest.approx(1920 / cost["seconds"], rel=0.01)


def test_flops_are_counted_forward_and_backward(train):
    *_, cost = train()
    # Two matrices; the first layer's input needs no gradient.
    forward = 2 * (6 * 8 + 8 * 1)
    assert cost["flops_per_sample"] == forward + forward + 2 * 8 * 1


def test_samples_are_counted_in_their_own_unit(train):
    class Clips(Numbers):
        unit, repeats = "clips", 3

        def __getitems__(self, samples):
            return super().__getitems__([sample for sample in samples for _ in range(self.repeats)])

    *_, once = train("once")
    *_, cost = train("thrice", dataset=Clips(), accumulate=2)
    assert (cost["samples"], cost["unit"]) == (3 * once["samples"], "clips")
    assert cost["samples_per_second"] == pytest.approx(cost["samples"] / cost["seconds"], rel=0.01)
    assert cost["flops_per_sample"] == once["flops_per_sample"]


def test_counting_flops_leaves_no_trace(train, monkeypatch):
    weights, *_ = train("with")
    monkeypatch.setattr("pipeline.engine.fit.count_flops", lambda *_: 0)
    assert same(weights, train("without")[0])


@pytest.mark.parametrize("step", [1, 4, 7, 11])
def test_an_interrupted_run_ends_with_the_same_bits(train, step):
    whole, lines, _ = train("whole")
    with pytest.raises(KeyboardInterrupt):
        train("cut", dataset=Interrupting(step, crash))
    resumed, again, cost = train("cut")
    assert same(whole, resumed)
    assert lines == again  # no line is missing or twice
    assert cost["resumed_at"] == 4 * (step // 4)


def test_seconds_add_up_over_resumptions(train, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train("cut", dataset=Interrupting(9, crash))
    state = torch.load(tmp_path / "cut" / "step-00000008.pt", weights_only=True)
    assert state["seconds"] > 0
    *_, cost = train("cut")
    assert cost["seconds"] > state["seconds"]


def test_a_finished_run_is_not_trained_again(train):
    weights, *_ = train()
    dataset = Numbers()
    again, *_ = train(dataset=dataset)
    assert same(weights, again)
    assert len(dataset.seen) <= 1  # at most the batch that counts FLOPs


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_saves_at_the_next_step_and_leaves_to_be_tried_again(train, name):
    whole, lines, _ = train("whole")
    before = signal.getsignal(name)
    with pytest.raises(Preempted) as left:
        train("cut", dataset=Interrupting(6, lambda: signal.raise_signal(name)))
    assert left.value.code == EXIT_CODE
    assert signal.getsignal(name) is before
    resumed, again, cost = train("cut")
    assert cost["resumed_at"] == 7
    assert same(whole, resumed) and lines == again


@pytest.mark.parametrize("accumulate", [2, 4])
def test_micro_batches_add_up_to_the_batch(train, accumulate):
    whole, *_ = train("whole", dropout=0.0)
    parts, *_ = train("parts", dropout=0.0, accumulate=accumulate)
    for name in whole:
        assert torch.allclose(whole[name], parts[name], atol=1e-6), name


def test_workers_change_nothing(train):
    assert same(train("none")[0], train("two", num_workers=2)[0])


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_weights(train):
    kinds = []

    class Watching(Small):
        def forward(self, x, y, mode="loss", **_):
            kinds.append(self.layers(x).dtype)
            return super().forward(x, y)

    weights, *_ = train(kind=Watching, precision="bf16", steps=2)
    assert kinds[-1] == torch.bfloat16
    assert all(weight.dtype == torch.float32 for weight in weights.values())


def test_steps_are_taken_while_a_checkpoint_is_written(train, monkeypatch, tmp_path):
    """The first checkpoint, of step 4, is not there before step 7; the end waits for its own."""
    reached, whole, seen = Event(), checkpoint.save, []

    class Counting(Small):
        def forward(self, **inputs):
            seen.append(self.training and torch.is_grad_enabled())
            if len(seen) == 8:  # one of them counts FLOPs
                reached.set()
            return super().forward(**inputs)

    def waiting(*args):
        assert reached.wait(60), "training waits for the checkpoint"
        return whole(*args)

    monkeypatch.setattr(checkpoint, "save", waiting)
    weights, *_ = train(kind=Counting)
    assert [path.name for path in stored(tmp_path / "work")] == ["step-00000008.pt", "step-00000012.pt"]
    assert same(weights, checkpoint.load_newest(tmp_path / "work")[1]["model"])


@pytest.mark.parametrize(("ending", "error", "last"), [(crash, KeyboardInterrupt, 4), (terminate, Preempted, 6)])
def test_whatever_ends_a_run_the_checkpoint_under_way_is_finished(train, monkeypatch, tmp_path, ending, error, last):
    whole = checkpoint.save

    def late(*args):
        sleep(0.5)
        return whole(*args)

    monkeypatch.setattr(checkpoint, "save", late)
    with pytest.raises(error):
        train("cut", dataset=Interrupting(5, ending))
    assert checkpoint.load_newest(tmp_path / "cut")[0] == last


def test_a_checkpoint_that_could_not_be_written_stops_the_run(train, monkeypatch):
    def full(*_):
        raise checkpoint.CheckpointError("no space")

    monkeypatch.setattr(checkpoint, "save", full)
    with pytest.raises(CheckpointError, match="no space"):
        train(steps=4)


def test_a_loss_that_is_not_finite_stops_the_run(train):
    class Broken(Small):
        def forward(self, x, y, mode="loss", **_):
            loss = super().forward(x, y)["loss"]
            return {"loss": loss * float("nan")}

    with pytest.raises(TrainingError, match="the loss is nan at step 1; expected a finite number"):
        train(kind=Broken)


def test_gradients_are_clipped(train):
    free, *_ = train("free", steps=4)
    clipped, *_ = train("clipped", steps=4, clip_norm=1e-9)
    torch.manual_seed(0)
    start = Small().state_dict()
    assert not same(free, clipped)
    assert max((clipped[name] - start[name]).abs().max() for name in start) < 0.05


def test_a_damaged_checkpoint_gives_way_to_the_one_before(train, tmp_path, capsys):
    whole, *_ = train("whole")
    with pytest.raises(KeyboardInterrupt):
        train("cut", dataset=Interrupting(11, crash))
    newest = stored(tmp_path / "cut")[-1]
    newest.write_bytes(newest.read_bytes()[:-10])
    resumed, *_ = train("cut")
    assert "it was cut short" in capsys.readouterr().out
    assert same(whole, resumed)


def test_no_checkpoint_to_trust_stops_the_run(train, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train("cut", dataset=Interrupting(11, crash))
    for path in stored(tmp_path / "cut"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"none of the checkpoints .* verifies"):
        train("cut")


def test_a_batch_that_does_not_fit_is_refused(train):
    with pytest.raises(ConfigError, match="batch_size is 128, but the data set has 64 samples"):
        train(batch_size=128)
    with pytest.raises(ConfigError, match="batch_size 16 cannot be shared out evenly over 1 processes × 3"):
        train(accumulate=3)
