"""Every dependency that is declared is used: imported, read for its data, or run as a program or plugin."""

import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest

PROJECT = tomllib.loads(Path("pyproject.toml").read_text())
SHIPPED = ("pipeline", "stages", "benchmarks")
HOME = {"dependencies": SHIPPED, "dev": (*SHIPPED, "docs", "tests")}
BY_OTHERS = {"onedl-mmcv"}  # mmdet and mmseg import it and declare it in an extra only
CALLED = "\n".join(
    path.read_text()
    for pattern in (
        "Makefile",
        "Snakefile",
        "dvc.yaml",
        "profiles/*/*.yaml",
        "slurm/*.yaml",
        "stages/*.py",
        "pyproject.toml",
        "mkdocs.yml",
    )
    for path in sorted(Path().glob(pattern))
)


def name_of(requirement: str) -> str:
    return re.split(r"[=<>!~ \[]", requirement, maxsplit=1)[0]


def modules_of(name: str) -> set[str]:
    """The packages and modules a distribution installs."""
    parts = [file.parts for file in distribution(name).files or () if file.suffix in (".py", ".so")]
    return {first.partition(".")[0] for first, *_ in parts if first.partition(".")[0].isidentifier()}


def imports(code: str, module: str) -> bool:
    taken = rf"(?m)^\s*(from|import) {module}\b|importorskip\([\"']{module}\b"
    return bool(re.search(taken, code)) or f'bundled("{module}"' in code  # `bundled` reads a package's data files


def called(name: str) -> bool:
    """Whether the project's own files run it: a program, a plugin of snakemake's or pytest's, or stubs for mypy."""
    plugins = {
        r"snakemake-executor-plugin-(\w+)": r"executor:? *{}\b",
        r"snakemake-logger-plugin-(\w+)": r"--logger={}\b",
        r"pytest-(xdist)": r"-m pytest -n ",
        r"pytest-(\w+)": r"(?m)^{} = ",
        r"types-(\w+)": r"(?m)^\[tool.mypy\]",
        r"mkdocs-(material)": r"(?m)^  name: {}$",
    }
    for plugin, use in plugins.items():
        if found := re.fullmatch(plugin, name):
            return bool(re.search(use.format(found[1]), CALLED))
    return bool(re.search(rf"(?m)^[ \t;@]*{name} |-m {name} |[\[\"']{name}[\"'],|&& {name} ", CALLED))


def used(name: str, folders: tuple[str, ...]) -> bool:
    code = "\n".join(path.read_text() for folder in folders for path in sorted(Path(folder).rglob("*.py")))
    return any(imports(code, module) for module in modules_of(name)) or called(name) or name in BY_OTHERS


@pytest.mark.parametrize("requirement", PROJECT["project"]["dependencies"])
def test_every_dependency_is_used(requirement):
    assert used(name_of(requirement), HOME["dependencies"]), f"{requirement} is declared and not used: take it out"


@pytest.mark.parametrize("requirement", PROJECT["project"]["optional-dependencies"]["dev"])
def test_every_development_dependency_is_used(requirement):
    assert used(name_of(requirement), HOME["dev"]), f"{requirement} is declared and not used: take it out"


def test_an_unused_one_is_noticed():
    assert not used("pandas", HOME["dependencies"]) and not used("snakemake-interface-common", HOME["dev"])
