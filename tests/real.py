"""A real project in a temporary folder: the repository's own configuration, with a study of a few tiny steps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]


def write(folder: Path, changes: dict[str, Any] | None = None) -> Path:
    """Lay out the project and return its study: the smoke study, its MAE changed by `changes`."""
    (folder / "config").mkdir(parents=True)
    for name in ("recipes", "tasks", "models"):
        (folder / "config" / name).symlink_to(ROOT / "config" / name)
    study = yaml.safe_load((ROOT / "config/smoke.yaml").read_text())
    study["runs"]["mae"]["set"] |= changes or {}
    path = folder / "config" / "tiny.yaml"
    path.write_text(yaml.safe_dump(study))
    return path.relative_to(folder)


def command(stage: str, *arguments: str, study: str = "config/tiny.yaml") -> list[str]:
    return [sys.executable, "-m", f"stages.{stage}", "--study", study, *arguments]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}


def run(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run one stage to its end; it must succeed."""
    done = subprocess.run(
        command(*arguments), cwd=folder, env=environment(**more), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done
