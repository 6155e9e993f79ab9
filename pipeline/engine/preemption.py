"""Leaving in good order: on SIGTERM or SIGUSR2 a run saves at the next step and exits so that it is tried again.

Slurm sends SIGUSR2 some minutes before the time limit, and SIGTERM when a job is cancelled or preempted. The
handler only sets a flag; all ranks agree on it between two steps, so that none waits for another that has left.
"""

import signal
from types import FrameType

import torch
from mmengine import dist

EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: try again later
AGREE_EVERY = 10  # steps between two agreements of several ranks
SIGNALS = (signal.SIGTERM, signal.SIGUSR2)


class Preempted(SystemExit):
    """Saved and asked to leave; running the same command again resumes."""

    def __init__(self, step: int) -> None:
        super().__init__(EXIT_CODE)
        print(f"preempted: saved at step {step}; the same command resumes there", flush=True)


class Preemption:
    """Context manager that catches the signals while a run trains."""

    def __init__(self) -> None:
        self.asked = False
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> "Preemption":
        for name in SIGNALS:
            self._previous[name] = signal.signal(name, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for name, handler in self._previous.items():
            signal.signal(name, handler)  # type: ignore[arg-type]

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.asked = True

    def agreed(self, step: int) -> bool:
        """Whether every rank is to leave after this step: true as soon as one was asked."""
        if dist.get_world_size() == 1:
            return self.asked
        if step % AGREE_EVERY:
            return False
        flag = torch.tensor(float(self.asked), device=dist.get_comm_device())
        dist.all_reduce(flag, "max")
        return bool(flag.item())
