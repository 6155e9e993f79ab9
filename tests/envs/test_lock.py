"""The lock installs the same files everywhere: hashes for all, addresses for none."""

import re
import tomllib
from pathlib import Path

LOCK = Path("envs/requirements.lock").read_text()
# One requirement a line, with its hashes; without the comments that say who asked for it.
REQUIREMENTS = [line for line in LOCK.replace("\\\n", "").splitlines() if line and not line.lstrip().startswith("#")]


def test_every_requirement_is_pinned_and_hashed():
    assert len(REQUIREMENTS) > 100
    pinned = re.compile(r"[\w.-]+(\[[\w,-]+\])?==\S+( ;[^#]+?)?( +--hash=sha256:[0-9a-f]{64})+")
    assert [line for line in REQUIREMENTS if not pinned.fullmatch(line)] == []


def test_no_download_address():
    assert re.findall(r"://|git\+|file:| @ |--\w*index|--find-links", LOCK) == []


def test_the_lock_holds_what_the_project_asks_for():
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    asked = [*project["dependencies"], *(requirement for extra in extras for requirement in extra)]
    locked = {line.split()[0].lower() for line in REQUIREMENTS}
    known = locked | {pin.split("==")[0] for pin in locked}
    assert [wanted for wanted in asked if wanted.lower() not in known] == [], "run `make lock`"
