"""Every hostile or broken input gives one clear line that names its file, or is rejected by name; nothing is executed.

The inputs are data that can grow: a list of a module of this folder, or a mutation.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from pathlib import Path

import pytest

from pipeline.config import ConfigError
from pipeline.engine.checkpoint import CheckpointError
from pipeline.manifest import ManifestError
from tests.hostile import ade20k, checkpoints, coco, images, names, packs, studies, videos
from tests.hostile.entry import Entry
from tests.hostile.trees import CANARY

ENTRIES: list[Entry] = [
    entry for module in (images, coco, ade20k, videos, packs, checkpoints, studies, names) for entry in module.ENTRIES
]
MEMORY = 2**20  # KiB that an input may take
SECONDS = 20


def memory(key: str) -> int:
    """KiB: `VmRSS` is what the process holds, `VmHWM` the most since it was last set back."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1])


@contextlib.contextmanager
def in_time():
    """A FIFO that was opened would wait for ever."""

    def late(*_):
        raise AssertionError(f"it took more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_they_are_many():
    assert len(ENTRIES) >= 500
    assert len({entry.name for entry in ENTRIES}) == len(ENTRIES), "each has a name of its own"


@pytest.mark.parametrize(
    "entry",
    [pytest.param(entry, id=entry.name[:70], marks=[pytest.mark.slow] * entry.slow) for entry in ENTRIES],
)
def test_it_is_one_line_or_a_reject(entry, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # takes most of the time, and power is not cut here
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    told = io.StringIO()
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(told), in_time():
        try:
            rejects = entry.act(tmp_path)
        except (ConfigError, CheckpointError, ManifestError) as error:
            line = str(error)
            assert line and "\n" not in line and len(line) < 2000
            assert entry.file in line
            assert "weights_only" not in line, "advice to execute it"
        else:
            assert rejects or entry.harmless, "it was taken"
            for _file, reason in rejects or ():
                assert reason and "\n" not in reason and len(reason) < 500
            assert not rejects or any(entry.file in file for file, _ in rejects), rejects
    assert not list(tmp_path.rglob(CANARY)) and not list(tmp_path.rglob(f"{CANARY}.*")), "it was executed"
    assert memory("VmHWM") - before < MEMORY
    assert "Traceback" not in told.getvalue()
    assert CANARY not in sys.modules
