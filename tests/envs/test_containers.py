"""The container recipes: what they copy is all that setting up needs, and both set up as `make setup` does."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DOCKER, APPTAINER = Path("envs/Dockerfile"), Path("envs/unmask.def")
HOME = "/opt/unmask/"


def copied_by_docker() -> dict[str, str]:
    """Files by where they end up below the working directory; what .dockerignore leaves out cannot be copied."""
    allowed = Path("envs/Dockerfile.dockerignore").read_text().split()
    assert allowed[0] == "*"
    copied = {}
    for line in re.findall(r"^COPY (.+)$", DOCKER.read_text(), re.MULTILINE):
        *files, target = line.split()
        assert all(f"!{file}" in allowed for file in files), files
        copied |= {file: f"{target.rstrip('/')}/{Path(file).name}" for file in files}
    return copied


def copied_by_apptainer() -> dict[str, str]:
    (section,) = re.findall(r"^%files\n((?: +.+\n)+)", APPTAINER.read_text(), re.MULTILINE)
    copied = dict(line.split() for line in section.strip().splitlines())
    assert all(target.startswith(HOME) for target in copied.values())
    return {file: target.removeprefix(HOME) for file, target in copied.items()}


@pytest.mark.parametrize("copied", [copied_by_docker, copied_by_apptainer])
def test_setting_up_works_on_what_is_copied(copied, tmp_path):
    for file, target in copied().items():
        (tmp_path / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, tmp_path / target)
    uv = (
        tmp_path / "bin/uv"
    )  # in the place of the real one: compiles nothing, but asks for the compiler that it was given
    uv.parent.mkdir()
    uv.write_text(
        "#!/bin/sh\n"
        'case $1 in --version) echo "uv 0.13.8";; venv) mkdir -p .venv/bin && ln -s /bin/true .venv/bin/python;;\n'
        '*) for last; do :; done; [ -s "$last" ] && "${CXX:-c++}" --version;; esac\n'
    )
    uv.chmod(0o755)
    path = f"{uv.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [tmp_path / "envs/setup.sh"],
        env={**os.environ, "PATH": path, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / ".venv/lock.sha256").is_file()


def test_both_begin_alike_and_call_the_projects_own_script():
    docker, apptainer = DOCKER.read_text(), APPTAINER.read_text()
    (base,) = re.findall(r"^FROM (\S+)$", docker, re.MULTILINE)
    assert re.findall(r"^From: (\S+)$", apptainer, re.MULTILINE) == [base]
    assert base.startswith("python:3.11-")  # the lock's Python, and Debian's compiler and headers
    (uv,) = re.findall(r"pip install .*$", docker, re.MULTILINE)
    assert uv in apptainer
    for recipe in (docker, apptainer):
        assert re.search(r"^\s*(RUN |/opt/unmask/)envs/setup\.sh", recipe, re.MULTILINE)
    (image,) = re.findall(r'^container: "(.+)"$', Path("Snakefile").read_text(), re.MULTILINE)
    assert f"apptainer build {image} {APPTAINER}" in apptainer
    assert "envs/setup.sh" in re.findall(r"^setup:.*\n((?:\t.+\n)+)", Path("Makefile").read_text(), re.MULTILINE)[0]
