"""MMEngine hooks around each step: rate, log, checkpoint, preemption."""

import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, get_comm_device, get_world_size, is_main_process
from mmengine.hooks import Hook
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline.engine import checkpoint
from pipeline.engine.preemption import Preempted, Preemption
from pipeline.engine.schedules import Schedule
from pipeline.files import write_atomic


class TrainingError(RuntimeError):
    """Training that cannot go on, such as a loss that is not finite."""


class ScheduleHook(Hook):
    """Set each group's rate before the step: its initial rate times the schedule's factor, unless it is `constant`."""

    priority = "VERY_HIGH"

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        factor = self.schedule(runner.iter)
        for group in runner.optim_wrapper.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * (1.0 if group.get("constant") else factor)


class LogHook(Hook):
    """One JSON object a logged step in a file, and a bar on a terminal or plain lines elsewhere.

    Values are means over the step's micro-batches and over all ranks. The log up to a checkpoint is part of it, and on
    resumption takes the place of the file, whatever became of that.

    Args:
        path: of the log.
        every: how many steps a line.
        batch_size: samples of a step.
        phase: of the training, where it is one of several that share a log; its lines then name it.
        steps_before: of the phases before it, from which the log counts on.
    """

    priority = "NORMAL"

    def __init__(self, path: Path, every: int, batch_size: int, phase: str = "", steps_before: int = 0) -> None:
        self.path, self.every, self.batch_size = path, every, batch_size
        self.phase, self.steps_before = phase, steps_before
        self.bar: Progress | None = None

    def before_train(self, runner: Any) -> None:
        if not is_main_process():
            return
        last = self.steps_before + runner.iter
        self.text = good_lines(self.path, last) if runner.log is None else runner.log
        write_atomic(self.path, self.text)
        self.began, self.first = time.monotonic(), runner.iter
        if sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self.bar = Progress(*columns)
            self.task = self.bar.add_task("training", total=runner.max_iters, completed=runner.iter)
            self.bar.start()

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        step = runner.iter
        if step % self.every and step != runner.max_iters:
            return
        values = mean_over_ranks(outputs)
        if not math.isfinite(values["loss"]):
            raise TrainingError(
                f"the loss is {values['loss']} at step {step}{self._of_phase}; expected a finite number. Lower "
                "the learning rate, lengthen the warm-up or train in float32; the checkpoints before are kept"
            )
        if not is_main_process():
            return
        rate = max(group["lr"] for group in runner.optim_wrapper.optimizer.param_groups)
        told = {"phase": self.phase} if self.phase else {}
        line = json.dumps({"step": self.steps_before + step, **told, **values, "lr": rate}) + "\n"
        self.text += line
        with open(self.path, "a") as file:
            file.write(line)
        elapsed = time.monotonic() - self.began
        if self.bar is not None:
            self.bar.update(self.task, completed=step, description=f"loss {values['loss']:.4f}")
        else:
            left = time.strftime("%H:%M:%S", time.gmtime(elapsed / (step - self.first) * (runner.max_iters - step)))
            speed = (step - self.first) * self.batch_size / elapsed
            print(f"step {step}/{runner.max_iters}{self._of_phase}  loss {values['loss']:.4f}  lr {rate:.2e}  "
                  f"{speed:,.0f} samples/s  {left} left", flush=True)  # fmt: skip

    @property
    def _of_phase(self) -> str:
        return f" of phase {self.phase!r}" if self.phase else ""

    def after_train(self, runner: Any) -> None:
        if is_main_process():
            write_atomic(self.path, self.text)
        self.close()

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()


def good_lines(path: Path, last: int) -> str:
    """The beginning of a log, up to a step or to the first line that is no line of a log."""
    kept = []
    with suppress(OSError, ValueError, KeyError, TypeError):
        for line in path.read_bytes().splitlines(keepends=True):
            if json.loads(line)["step"] > last or not line.endswith(b"\n"):
                break
            kept.append(line.decode())
    return "".join(kept)


def mean_over_ranks(values: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Means of () values over all ranks, which have the same names; one exchange for all of them."""
    stacked = torch.stack([torch.as_tensor(value).detach().float() for value in values.values()])
    if get_world_size() > 1:
        stacked = stacked.to(get_comm_device())
        all_reduce(stacked, "mean")
    return dict(zip(values, stacked.tolist(), strict=True))


class SnapshotHook(Hook):
    """Draw at the beginning and then at equal distances, but not at the end.

    Args:
        num: how often.
        draw: takes the step; all ranks call it, since what is drawn may take collectives.
    """

    priority = "BELOW_NORMAL"  # before a checkpoint, after which no step up to it is taken again

    def __init__(self, num: int, draw: Callable[[int], Any]) -> None:
        self.num, self.draw = num, draw

    def before_train(self, runner: Any) -> None:
        self.steps = {runner.max_iters * part // self.num for part in range(self.num)}
        if runner.iter == 0:
            self._draw(0)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self._draw(runner.iter)

    def _draw(self, step: int) -> None:
        if step in self.steps:
            self.draw(step)


class CheckpointHook(Hook):
    """Save every so many steps, and when asked to leave; see `pipeline.engine.checkpoint`.

    Training goes on while a checkpoint is written; only who leaves or ends waits for it.
    """

    priority = "LOW"

    def __init__(self, folder: Path, every: int, preemption: Preemption, log: LogHook) -> None:
        self.every, self.preemption, self.log = every, preemption, log
        self.writer = checkpoint.Writer(folder)

    def before_train(self, runner: Any) -> None:
        self.began = time.monotonic()
        _, self.carried = runner.resumed  # seconds of the processes before this one

    @property
    def seconds(self) -> float:
        """Time spent in training, over all resumptions."""
        return self.carried + time.monotonic() - self.began

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        step = runner.iter
        leave = self.preemption.agreed(step)
        if leave or step % self.every == 0 or step == runner.max_iters:
            if is_main_process():
                state = {**runner.state(), "seconds": self.seconds, "log": self.log.text}
                self.writer.save(step, state)
        if leave:
            self.writer.wait()
            raise Preempted(step)

    def after_train(self, runner: Any) -> None:
        self.writer.wait()
