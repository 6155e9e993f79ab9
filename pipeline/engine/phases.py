"""The phases of a method, one after the other: each resumes exactly, and what is over is never repeated.

`<work>/phases` holds what the newest phases left: a checkpoint whose step is the number of phases that are over, with
the method's state and all results so far. Beside it, in a folder of its number, the running phase has its own.
"""

import itertools
import json
import shutil
import time
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from mmengine import dist
from mmengine.device import get_device

from pipeline.config import ConfigError
from pipeline.data.draws import bits
from pipeline.engine import checkpoint
from pipeline.engine.runner import seed_everything
from pipeline.methods.base import Method, Phase

PHASE = 102  # the stream of draws that seeds a phase, apart from those of `pipeline.data.draws`
BEGIN, END = 2**31 - 2, 2**31 - 3  # the "steps" whose seeds the hooks get


class PhaseError(RuntimeError):
    """A phase that could not begin or end, or that is not the one that was begun."""


class Training(Protocol):
    def __call__(self, phase: Phase, *, work: Path, seed: int, steps_before: int) -> dict[str, Any]:
        """Train one phase, or go on from the newest checkpoint in `work`, and return the cost; see `fit`."""


def run_phases(
    method: Method, phases: Generator[Phase, Any, None], train: Training, *, work: Path, seed: int
) -> tuple[list[dict[str, Any]], Phase]:
    """Train the phases of a method that are not over yet; all processes call it.

    Each named phase leaves the method as it was read back from the disk, so that the next one cannot tell whether there
    was an interruption. The first phase has the run's seed, the others seeds that follow from it.

    Returns:
        `name`, `steps`, `result` and `cost` of each phase, and the last phase.

    Raises:
        PhaseError: a hook failed, or other code began this work.
    """
    folder = work / "phases"
    done, state = _load(folder)
    trainable = {name: parameter.requires_grad for name, parameter in method.named_parameters()}
    result, steps = None, 0
    for number in itertools.count():
        try:
            phase = phases.send(result)
        except StopIteration:
            break
        if number < len(done) and done[number]["name"] != phase.name:
            raise PhaseError(
                f"phase {number + 1} is {phase.name!r}, and {done[number]['name']!r} was trained in its place in "
                f"{folder}: by other code; delete that folder to train from the start"
            )
        if number >= len(done) - 1:  # the newest that is over begins too: who follows may need what that sets
            for name, parameter in method.named_parameters():
                parameter.requires_grad_(trainable[name])
            method.to(get_device())
            key = int(bits(seed, 0, number, PHASE)) & (2**31 - 1) if number else seed
            began = time.monotonic()
            _call(phase, "begin", key, BEGIN)
            seconds = time.monotonic() - began
        if number == len(done):
            own = folder / str(number) if phase.name else work
            own.mkdir(parents=True, exist_ok=True)
            cost = train(phase, work=own, seed=key, steps_before=steps)
            began = time.monotonic()
            result = _call(phase, "end", key, END)
            cost["seconds"] = round(cost["seconds"] + seconds + time.monotonic() - began, 3)
            done.append({"name": phase.name, "steps": cost["steps"], "result": result, "cost": cost})
            if phase.name:
                _save(folder, done, method)
                done, state = _load(folder)
        if state is not None and number == len(done) - 1:
            method.load_state_dict(state)
            state = None
        result, steps = done[number]["result"], steps + done[number]["steps"]
    return done, phase


def total_cost(costs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The cost of trainings one after the other, see `fit`; of several it is not told where one resumed."""
    if len(costs) == 1:
        return dict(costs[0])
    total = {key: value for key, value in costs[-1].items() if key != "resumed_at"}
    total |= {key: sum(cost[key] for cost in costs) for key in ("seconds", "steps", "samples")}
    flops = sum(cost["flops_per_sample"] * cost["samples"] for cost in costs)
    return total | {
        "seconds": round(total["seconds"], 3),
        "samples_per_second": round(total["samples"] / total["seconds"], 2),
        "flops_per_sample": flops / total["samples"],
    }


def _call(phase: Phase, name: str, seed: int, step: int) -> Any:
    """What a hook returns, in JSON's terms; None where there is no such hook."""
    hook: Callable[[], Any] | None = getattr(phase, name)
    if hook is None:
        return None
    seed_everything(seed, step, rank=0)
    try:
        return json.loads(json.dumps(hook()))
    except ConfigError:
        raise
    except Exception as error:
        traceback.print_exc()
        raise PhaseError(
            f"phase {phase.name!r} could not {name}: {type(error).__name__}: {error}. The phases before it are kept; "
            f"mend its `{name}` and run the same command again, which goes on from there"
        ) from error


def _save(folder: Path, done: list[dict[str, Any]], method: Method) -> None:
    """Put on disk that a phase is over, then drop its own checkpoints."""
    if dist.is_main_process():
        checkpoint.save(folder, len(done), {"done": done, "state": method.state_dict()})
        shutil.rmtree(folder / str(len(done) - 1))
    dist.barrier()


def _load(folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """The phases that are over, and the method's state after the last of them."""
    found = checkpoint.load_newest(folder)
    return ([], None) if found is None else (found[1]["done"], found[1]["state"])
