"""Stages that are killed at the n-th operation on a file, and run again: python -m tests.faults <folder> <stage> <n>...

A process that has imported everything forks one for each attempt, so that an attempt costs what its stage does. Before
the n-th time that a file of the project is opened for writing, renamed, removed, made or brought to the disk, it gets
SIGKILL. Printed is a JSON object for each n.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from pipeline.manifest import ManifestError, verify
from tests.real import ROOT, environment, write

SHORT = {"train.duration": "4 steps", "train.checkpoint_every": 2, "train.log_every": 1}
SHORT |= {"train.warmup": "1 step", "train.batch_size": 16}
STAGES = {
    "prepare": ["prepare", "--data", "smoke-digits"],
    "pretrain": ["pretrain", "--run", "clmae", "--seed", "0"],  # it takes snapshots
    "linear_probe": ["evaluate", "--task", "linear_probe", "--run", "clmae", "--seed", "0"],
    "knn": ["evaluate", "--task", "knn", "--run", "clmae", "--seed", "0"],
}
PLACES = {
    "prepare": "data/smoke-digits",
    **{name: f"results/tiny/{name}/clmae-0" for name in ("pretrain", "linear_probe", "knn")},
}
EVENTS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link", "os.symlink"}


def project(folder: Path) -> Path:
    """A project in which every stage was run without interruption."""
    study = folder / write(folder)
    content = yaml.safe_load(study.read_text())
    content["data"] = {"smoke-digits": content["data"]["smoke-digits"]}
    content["runs"] = {"clmae": {"method": "clmae", "set": SHORT}}
    content["tasks"] = {"knn": content["tasks"]["knn"], "linear_probe": {"seeds": [0], "set": SHORT}}
    study.write_text(yaml.safe_dump(content))
    done = subprocess.run([sys.executable, "-m", "tests.faults", str(folder)], cwd=ROOT, env=environment(),
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def killed(whole: Path, stage: str, moments: list[int]) -> list[dict[str, Any]]:
    """What became of a stage killed at each of these moments and run again."""
    command = [sys.executable, "-m", "tests.faults", str(whole), stage, *map(str, moments)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def sample(count: int, number: int) -> list[int]:
    """Some moments, others each time."""
    return sorted(random.Random().sample(range(1, count + 1), min(number, count)))


def main() -> None:
    whole, *rest = sys.argv[1:]
    for name in ("engine.pretrain", "tasks.linear_probe", "tasks.knn", "methods.clmae"):
        import_module(f"pipeline.{name}")
    if not rest:
        for stage in STAGES:
            code, said, count = run(Path(whole), stage, 0)
            assert code == 0, said
            (Path(whole) / f"{stage}.count").write_text(str(count))
        return
    for moment in map(int, rest[1:]):
        print(json.dumps({"moment": moment, **attempt(Path(whole), rest[0], moment)}), flush=True)


def attempt(whole: Path, stage: str, moment: int) -> dict[str, Any]:
    """Kill a stage once, run it again and compare."""
    folder, place = whole.with_name(f"{whole.name}-{stage}-{moment}"), PLACES[stage]
    inputs_of(whole, stage, folder)
    first, said, _ = run(folder, stage, moment)
    published = (folder / place / "manifest.json").exists() or bool(list(folder.glob("work/**/manifest.json")))
    code, again, _ = run(folder, stage, 0)
    try:
        found = verify(folder / place / "manifest.json")
    except ManifestError as error:
        found = {"error": str(error)}
    expected = verify(whole / place / "manifest.json")
    parts = ("artefacts", "records", "settings", "pictures", "digest")
    differing = [part for part in parts if found.get(part) != expected.get(part)]
    there = [path.relative_to(folder) for top in ("results", "data", "work") for path in (folder / top).rglob("*")]
    left = [str(path) for path in there if path.name.startswith(".") and path.name != ".verified.json"]
    left += [str(path) for path in there if path.parts[0] == "work" and (folder / path).is_file()]
    good = code == 0 and not differing and not left
    repeated = published and ("finished: " not in again or "step " in again)
    if good and not repeated:
        shutil.rmtree(folder)
    return {
        "killed": first == -signal.SIGKILL,
        "published": published,
        "good": good,
        "repeated": repeated,
        "code": code,
        "differing": differing,
        "left": left,
        "said": "" if good else said[-1500:] + again[-1500:],
    }


def inputs_of(whole: Path, stage: str, folder: Path) -> None:
    """A project in which a stage is the next to be run."""
    folder.mkdir()
    (folder / "config").symlink_to(whole / "config")
    before = {"prepare": [], "pretrain": ["prepare"]}.get(stage, ["prepare", "pretrain"])
    for other in before:
        shutil.copytree(whole / PLACES[other], folder / PLACES[other])


def run(folder: Path, stage: str, moment: int) -> tuple[int, str, int]:
    """Exit code, output and number of operations of a stage in a process of its own; a moment of 0 kills none."""
    log, counted = folder / "log.txt", folder / "operations.txt"
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        name, *arguments = STAGES[stage]
        sys.argv = [name, "--study", "config/tiny.yaml", *arguments]
        module = import_module(f"stages.{name}")
        counts = _count(folder, moment)
        code = 0
        try:
            module.main()
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
            print(error.code)
        except BaseException as error:
            code = 1
            print(repr(error))
        sys.stdout.flush()
        counted.write_text(str(counts[0]))
        os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status, log.read_text(), int(counted.read_text()) if counted.exists() else 0


def _count(folder: Path, moment: int) -> list[int]:
    """Count the operations on files of the project from now on, and die before one of them."""
    counts, real = [0], os.fsync

    def one() -> None:
        counts[0] += 1
        if counts[0] == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    def ours(path: Any) -> bool:
        text = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else ""
        return bool(text) and "__pycache__" not in text and (text[0] != "/" or text.startswith(str(folder)))

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            writes = arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) if isinstance(arguments[2], int) else 0
            if writes and ours(arguments[0]):
                one()
        elif event in EVENTS and ours(arguments[0]):
            one()

    def fsync(descriptor: Any) -> None:
        one()
        real(descriptor)

    sys.addaudithook(hook)
    os.fsync = fsync
    return counts


if __name__ == "__main__":
    main()
