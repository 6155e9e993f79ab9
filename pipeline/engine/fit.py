"""Train a model: one function that every method and every trained task goes through."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine import dist
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.model import MMDistributedDataParallel
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset

from pipeline.data.images import as_it_is
from pipeline.engine.flops import count_flops
from pipeline.engine.hooks import CheckpointHook, LogHook, ScheduleHook
from pipeline.engine.preemption import Preemption
from pipeline.engine.processes import connect
from pipeline.engine.runner import Precision, Runner, StepLoop
from pipeline.engine.sampler import GlobalBatches
from pipeline.engine.schedules import Schedule
from pipeline.manifest import processor
from pipeline.nn.compiled import compiling
from pipeline.nn.recompute import recomputing


@dataclass(frozen=True, kw_only=True)
class Portions:
    """How long and in what portions a training runs.

    num_steps: updates of the optimiser.
    batch_size: samples of one update, over all devices and micro-batches.
    accumulate: micro-batches per device and update.
    precision: `float32`, or `bf16` for autocast to bfloat16.
    checkpoint_every, log_every: in steps.
    num_workers: loader processes per device.
    clip_norm: largest norm of the gradient, None for no clipping.
    activation_checkpointing: share of a transformer's blocks whose activations are computed again in the backward pass.
    compile: whether the blocks of transformers are compiled.
    """

    num_steps: int
    batch_size: int
    accumulate: int
    precision: str
    checkpoint_every: int
    log_every: int
    num_workers: int
    clip_norm: float | None = None
    activation_checkpointing: float = 0.0
    compile: bool = False


def fit(
    model: nn.Module,
    dataset: Dataset[Any],
    optimizer: Optimizer,
    schedule: Schedule,
    portions: Portions,
    *,
    work: Path,
    seed: int,
    log_path: Path,
    phase: str = "",
    steps_before: int = 0,
    collate: Callable[[Any], Any] = as_it_is,
    hooks: Sequence[Hook] = (),
) -> dict[str, Any]:
    """Train, or go on training from the newest checkpoint in `work`.

    Args:
        model: an MMEngine model (`train_step`), initialised; it holds the trained weights afterwards.
        dataset: takes (epoch, index) pairs; all its randomness is a function of (seed, epoch, index). Its attribute
            `unit` names its samples, by default `images`; where it makes several of each pair, `repeats` says how many.
        optimizer: of the model's parameters; each group's `lr` is its peak.
        schedule: factor of the peak rates at a step.
        portions: of the training.
        work: where the checkpoints stand.
        seed: decides order and randomness.
        log_path: file of JSON lines.
        phase, steps_before: of a training that is one of several with one log, see `LogHook`.
        collate: from a list of samples to a batch; by default the data set makes whole batches itself.
        hooks: of MMEngine's, beside those for rate, log and checkpoints.

    Returns:
        The cost: seconds of training over all resumptions, steps, samples, their unit and how many per second, devices,
        FLOPs per sample.

    Raises:
        Preempted: after saving, when SIGTERM or SIGUSR2 was received.
        CheckpointError, TrainingError, ConfigError: with the next step in the message.
    """
    connect()
    repeats = getattr(dataset, "repeats", 1)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    device = get_device()
    model = _distributed(model.to(device), device)
    batches = GlobalBatches(
        len(dataset),  # type: ignore[arg-type]
        portions.batch_size,
        portions.num_steps,
        portions.accumulate,
        dist.get_rank(),
        dist.get_world_size(),
        seed,
    )
    loader = DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=portions.num_workers,
        pin_memory=device == "cuda",
        persistent_workers=portions.num_workers > 0,
    )
    bare = getattr(model, "module", model)
    flops = count_flops(bare, next(iter(loader))) * portions.accumulate * dist.get_world_size()
    if bare is not model:
        _settle_buckets(model)
    preemption = Preemption()
    logging = LogHook(log_path, portions.log_every, portions.batch_size * repeats, phase, steps_before)
    saving = CheckpointHook(work, portions.checkpoint_every, preemption, logging)
    clip = {"max_norm": portions.clip_norm} if portions.clip_norm is not None else None
    runner = Runner(
        model=model,
        work_dir=str(work),
        train_dataloader=loader,
        train_cfg={"type": StepLoop, "max_steps": portions.num_steps, "accumulate": portions.accumulate, "seed": seed},
        optim_wrapper=Precision(optimizer, portions.accumulate, portions.precision, clip_grad=clip),
        default_hooks=dict.fromkeys(
            ("runtime_info", "timer", "sampler_seed", "logger", "param_scheduler", "checkpoint")
        ),
        custom_hooks=[ScheduleHook(schedule), logging, saving, *hooks],
        launcher="pytorch" if dist.is_distributed() else "none",
        log_level="WARNING",
        randomness={"seed": seed},
    )
    try:
        with (
            preemption,
            compiling(bare, portions.compile) as count,
            recomputing(bare, portions.activation_checkpointing),
        ):
            if portions.compile and dist.is_main_process():
                print(
                    f"{count} blocks of transformers are compiled, for which the first steps take a minute", flush=True
                )
            runner.train()
    finally:
        logging.close()
        saving.writer.join()
    for buffer in bare.buffers():  # statistics of BatchNorm are each process's own; the first one's are published
        dist.broadcast(buffer, src=0)
    seconds = saving.seconds
    samples = portions.num_steps * portions.batch_size * repeats
    return {
        "seconds": round(seconds, 3),
        "steps": portions.num_steps,
        "samples": samples,
        "unit": getattr(dataset, "unit", "images"),
        "samples_per_second": round(samples / seconds, 2) if samples else None,
        "device": torch.cuda.get_device_name() if device == "cuda" else f"cpu: {processor()}",
        "num_devices": dist.get_world_size(),
        "num_threads": torch.get_num_threads(),
        "precision": portions.precision,
        "flops_per_sample": flops / (portions.batch_size * repeats),
        "kwh": None,
        "resumed_at": runner.resumed[0],
    }


def _distributed(model: nn.Module, device: str) -> nn.Module:
    if not dist.is_distributed():
        return model
    devices = [int(os.environ["LOCAL_RANK"])] if device == "cuda" else None
    return MMDistributedDataParallel(module=model, device_ids=devices, broadcast_buffers=False)


def _settle_buckets(model: nn.Module) -> None:
    """Give each trainable parameter a gradient of zeros, in the order of a backward pass: the last one first.

    After its first backward pass PyTorch's DDP puts gradients into buckets anew, in the order in which they came, and
    with three processes or more their sum is rounded by that order: this pass is the first one of a beginning and of a
    resumed training alike.
    """
    bare = model.module
    trained = [parameter for parameter in bare.parameters() if parameter.requires_grad]
    bare.forward = lambda: torch.stack([0 * parameter.flatten()[0] for parameter in trained]).sum()
    try:
        model().backward()
    finally:
        del bare.forward
    model.zero_grad(set_to_none=True)
