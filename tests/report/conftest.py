"""A made-up study with its records, in a folder of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.config import Study
from pipeline.report.build import build

from .made import fill, make_study, write_config


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project with recipes, as the working directory."""
    write_config(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which the made-up study has been run; to be copied, not touched."""
    root = tmp_path_factory.mktemp("filled")
    write_config(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        fill(make_study())
    return root


@pytest.fixture(scope="session")
def built(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The filled project with its report; to be read, not touched."""
    root = tmp_path_factory.mktemp("built")
    shutil.copytree(filled, root, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        build(make_study())
    return root


@pytest.fixture
def study(root: Path, filled: Path) -> Study:
    """The made-up study with its records in place."""
    shutil.copytree(filled, root, dirs_exist_ok=True)
    return make_study()


@pytest.fixture(scope="module")  # while it is open an event loop runs, within which Snakemake would not
def browser():
    """Chromium without a window; tests that need it are skipped where it is not installed."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="the browser test needs the package playwright")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium here; install the package chromium to run it")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        )
        yield browser
        browser.close()
