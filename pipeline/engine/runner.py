"""MMEngine's Runner, fitted to this project: steps instead of iterations, and our own way of resuming.

A step is one update of the optimiser, over one or more micro-batches. Python's, NumPy's and PyTorch's generators are
seeded anew at every step from (seed, step, rank), so there is no state of theirs to save, and a resumed run is
bit-equal to one that was never interrupted.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine import dist
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop
from mmengine.runner import Runner as MMEngineRunner
from torch import nn

from pipeline.data.draws import bits
from pipeline.engine import checkpoint

STEP = 101  # the stream of draws that seeds a step, apart from those of `pipeline.data.draws`


class Precision(OptimWrapper):
    """An optimiser with accumulation, and autocast to bfloat16 where wanted.

    MMEngine's own wrapper for mixed precision refuses CPUs; bfloat16 needs none of its loss scaling.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, accumulate: int, precision: str, **more: Any) -> None:
        super().__init__(optimizer, accumulative_counts=accumulate, **more)
        self.precision = precision

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        device = next(model.parameters()).device.type
        with (
            super().optim_context(model),
            torch.autocast(device, torch.bfloat16, enabled=self.precision == "bf16"),
        ):
            yield

    def _clip_grad(self) -> None:
        """Clip without reading the norm back, for which MMEngine's own makes a GPU wait at every step."""
        parameters = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        if parameters:
            nn.utils.clip_grad_norm_(parameters, **self.clip_grad_kwargs)


class StepLoop(BaseLoop):
    """Take `max_steps` optimiser steps, starting where the checkpoint ended."""

    def __init__(self, runner: "Runner", dataloader: Any, max_steps: int, accumulate: int, seed: int) -> None:
        super().__init__(runner, dataloader)
        self.step, self.max_steps, self.accumulate, self.seed = 0, max_steps, accumulate, seed

    # The names MMEngine's Runner and hooks know a loop's counters by.
    iter = property(lambda self: self.step)
    max_iters = property(lambda self: self.max_steps)
    epoch = property(lambda self: 0)
    max_epochs = property(lambda self: 1)

    def run(self) -> nn.Module:
        runner, model = self.runner, self.runner.model
        bare = model.module if is_model_wrapper(model) else model
        micro = self.accumulate
        runner.optim_wrapper.initialize_count_status(model, self.step * micro, self.max_steps * micro)
        self.dataloader.batch_sampler.start = self.step
        runner.call_hook("before_train")
        model.train()
        batches = iter(self.dataloader)
        while self.step < self.max_steps:
            seed_everything(self.seed, self.step, dist.get_rank())
            runner.call_hook("before_train_iter", batch_idx=self.step)
            outputs = [model.train_step(next(batches), runner.optim_wrapper) for _ in range(micro)]
            if hasattr(bare, "after_step"):
                bare.after_step()
            self.step += 1
            means = {name: sum(output[name].detach() for output in outputs) / micro for name in outputs[0]}
            runner.call_hook("after_train_iter", batch_idx=self.step, outputs=means)
        runner.call_hook("after_train")
        return model


class Runner(MMEngineRunner):
    """Resumes from our checkpoints and leaves initial weights to the models' constructors."""

    def load_or_resume(self) -> None:
        found = checkpoint.load_newest(Path(self.work_dir))
        if found is None:
            return
        step, state = found
        self.bare_model.load_state_dict(state["model"])
        self.optim_wrapper.optimizer.load_state_dict(state["optimizer"])
        self._train_loop.step = step
        self.resumed, self.log = (step, state["seconds"]), state.get("log")
        if dist.is_main_process():
            print(f"resumed at step {step}", flush=True)

    resumed: tuple[int, float] = (0, 0.0)
    log: str | None = None  # up to the checkpoint

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds: weights and the optimiser's state."""
        return {"model": self.bare_model.state_dict(), "optimizer": self.optim_wrapper.optimizer.state_dict()}

    @property
    def bare_model(self) -> nn.Module:
        return self.model.module if is_model_wrapper(self.model) else self.model

    def _init_model_weights(self) -> None:
        """Weights are initialised or loaded before training starts."""

    def _log_env(self, env_cfg: Any) -> None:
        """Manifests tell of the environment; asking every compiler for its version takes seconds."""


def seed_everything(seed: int, step: int, rank: int) -> None:
    """Seed Python's, NumPy's and PyTorch's generators for one step of one rank."""
    key = int(bits(seed, step, rank, STEP)) & (2**63 - 1)
    random.seed(key)
    np.random.seed(key % 2**32)
    torch.manual_seed(key)
