"""`make setup` syncs once per lock, and says what is missing before it starts."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def clone(tmp_path):
    """A clone with a tiny lock, an environment, and a uv that only notes what it is asked for."""
    (tmp_path / "envs").mkdir()
    shutil.copy("envs/setup.sh", tmp_path / "envs")
    (tmp_path / "envs/requirements.lock").write_text("torch==2.11.0\n")
    programs = tmp_path / "bin"
    programs.mkdir()
    uv = programs / "uv"
    uv.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo "uv ${UV_IS:-0.13.8}" && exit\n'
        f'echo "$@" >>{tmp_path}/asked\n'
        '[ "$1" = venv ] && mkdir -p .venv/bin && ln -s /bin/true .venv/bin/python\n'
        '[ -z "$UV_FAILS" ]\n'
    )
    uv.chmod(0o755)
    return tmp_path


def setup(clone, **environment):
    environment = {"PYTHON": sys.executable, **os.environ, **environment}
    environment["PATH"] = f"{clone}/bin:{environment['PATH']}"
    return subprocess.run([clone / "envs/setup.sh"], env=environment, capture_output=True, text=True, timeout=60)


def asked(clone):
    path = clone / "asked"
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


def test_sets_up_once_per_lock(clone):
    assert setup(clone).returncode == 0
    assert asked(clone) == ["venv", "pip"]
    lock = clone / "envs/requirements.lock"
    assert (clone / ".venv/lock.sha256").read_text().strip() == hashlib.sha256(lock.read_bytes()).hexdigest()
    assert setup(clone).stdout == ""
    assert asked(clone) == ["venv", "pip"]
    lock.write_text("torch==2.12.0\n")
    assert setup(clone).returncode == 0
    assert asked(clone) == ["venv", "pip", "pip"]


def test_an_interrupted_sync_is_tried_again(clone):
    assert setup(clone, UV_FAILS="1").returncode != 0
    assert not (clone / ".venv/lock.sha256").exists()
    assert setup(clone).returncode == 0
    assert (clone / ".venv/lock.sha256").exists()


def test_hashes_are_required(clone):
    setup(clone)
    assert "--require-hashes" in (clone / "asked").read_text()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"PYTHON": "no-such-python"}, "no-such-python does not run; expected Python 3.11 or 3.12"),
        ({"CXX": "no-such-compiler"}, "no C++ compiler"),
    ],
)
def test_what_is_missing_is_named(clone, environment, message):
    result = setup(clone, **environment)
    assert result.returncode == 1
    assert message in result.stderr
    assert asked(clone) == []


def test_another_python_is_refused(clone):
    old = clone / "bin/python2.7"
    old.write_text("#!/bin/sh\necho 2.7\n")
    old.chmod(0o755)
    result = setup(clone, PYTHON=str(old))
    assert result.returncode == 1
    assert "is Python 2.7; expected 3.11 or 3.12" in result.stderr


def test_the_projects_files_name_no_registry():
    for path in (Path("envs/setup.sh"), Path("envs/Dockerfile"), Path("envs/unmask.def"), Path("Makefile")):
        assert "://" not in path.read_text(), path
