"""Several processes started on one cell at once: python -m tests.crowd <folder> <stage> <times> [namespaces]

They are forked from one that has imported everything. With `namespaces` each has process numbers of its own, as in a
container. Printed is a JSON object for each time.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from pipeline.manifest import verify
from tests.faults import PLACES, STAGES, inputs_of
from tests.real import ROOT, environment

NUM = 5
NEW_MOUNTS, NEW_NUMBERS, PRIVATE = (
    0x20000,
    0x20000000,
    0x40000 | 0x4000,
)  # CLONE_NEWNS, CLONE_NEWPID, MS_PRIVATE | MS_REC


def crowds(whole: Path, stage: str, times: int, namespaces: bool) -> list[dict[str, Any]]:
    """What became of each crowd."""
    command = [sys.executable, "-m", "tests.crowd", str(whole), stage, str(times), *(["namespaces"] * namespaces)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def main() -> None:
    whole, stage, times, *namespaces = sys.argv[1:]
    for name in ("engine.pretrain", "tasks.knn", "methods.clmae"):
        import_module(f"pipeline.{name}")
    for time in range(int(times)):
        print(json.dumps(crowd(Path(whole), stage, time, bool(namespaces))), flush=True)


def crowd(whole: Path, stage: str, time: int, namespaces: bool) -> dict[str, Any]:
    folder = whole.with_name(f"{whole.name}-crowd-{stage}-{time}")
    inputs_of(whole, stage, folder)
    children = [_start(folder, stage, place, namespaces) for place in range(NUM)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    said = [(folder / f"{place}.txt").read_text() for place in range(NUM)]
    found, expected = (verify(top / PLACES[stage] / "manifest.json")["digest"] for top in (folder, whole))
    worked = sum("finished: " not in text for text in said)
    told = sum("waiting: " in text for text in said)
    good = codes == [0] * NUM and worked == 1 and found == expected
    if good:
        shutil.rmtree(folder)
    return {"good": good, "codes": codes, "worked": worked, "waited": told, "said": "" if good else said}


def _start(folder: Path, stage: str, place: int, namespaces: bool) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        if namespaces:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.unshare(NEW_MOUNTS | NEW_NUMBERS):
                raise OSError(ctypes.get_errno(), "unshare")
            if inner := os.fork():  # the first process of the new namespace
                os._exit(os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1]))
            libc.mount(b"none", b"/", None, PRIVATE, None)
            if libc.mount(b"proc", b"/proc", b"proc", 0, None):
                raise OSError(ctypes.get_errno(), "mount")
        os.chdir(folder)
        descriptor = os.open(f"{place}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        name, *arguments = STAGES[stage]
        sys.argv = [name, "--study", "config/tiny.yaml", *arguments]
        import_module(f"stages.{name}").main()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        print(error.code)
    except BaseException as error:
        print(repr(error))
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
