"""What several rooms' tests stand on."""

from pathlib import Path

import pytest

from tests.small import write_project


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest come first, so that with several workers none is left alone with them at the end."""
    items.sort(key=lambda item: "slurm" not in item.keywords)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small made-up project as the working directory."""
    write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path
