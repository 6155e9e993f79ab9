"""What several rooms' tests stand on."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.small import write_project

ROOT = Path(__file__).parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest come first, so that with several workers none is left alone with them at the end."""
    items.sort(key=lambda item: "slurm" not in item.keywords)


@pytest.fixture(autouse=True)
def same_draws() -> None:
    """Draws that a test leaves to PyTorch's own generator are the same in each run."""
    if torch := sys.modules.get("torch"):  # not every test needs it
        torch.manual_seed(0)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small made-up project as the working directory."""
    write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation, built with its links checked."""
    folder = tmp_path_factory.mktemp("site")
    # Not --quiet: what is not said is not counted as a warning either.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder
