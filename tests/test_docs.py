"""The documentation is true: it builds with its links checked, loads nothing, and what it tells to type is accepted."""

import html
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from pipeline.config import load_study
from pipeline.graph import Graph
from tests.workflow.graphs import ROOT, copy_tree
from tests.workflow.test_toys import FILES

PAGES = [*sorted(ROOT.glob("docs/**/*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
# What an example of a part of a study is laid over.
STUDY = {
    "scale": "demo",
    "seeds": [0],
    "data": {"digits": yaml.safe_load((ROOT / "config/demo.yaml").read_text())["data"]["digits"]},
    "runs": {"mae": {"method": "mae"}},
    "tasks": {"knn": {"seeds": [0]}},
}
LOADS = {"src", "srcset", "poster", "data"}  # attributes that load what they name
OUTSIDE = {"git", "uv", "apptainer", "source", "eval", "squeue"}  # programs that are not the project's


def blocks(language: str) -> Iterator[tuple[str, str, str]]:
    """Every fenced block of a language: its page, its title and its text."""
    for page in PAGES:
        for found in re.finditer(rf"^( *)```{language}( [^\n]*)?\n(.*?)^\1```$", page.read_text(), re.M | re.S):
            indent, given, text = found[1], found[2] or "", found[3]
            title = re.search('title="(.*?)"', given)
            lines = [line.removeprefix(indent) for line in text.splitlines()]
            yield page.name, title[1] if title else "", "\n".join(lines) + "\n"


EXAMPLES = [(page, title, text) for page, title, text in blocks("yaml") if title]
WHOLE = {title: text for _, title, text in EXAMPLES if title.startswith("config/")}
COMMANDS = [
    (page, shlex.split(part, comments=True))
    for page, _, text in (*blocks("sh"), *blocks("bash"))
    for line in text.splitlines()
    for part in line.split("#")[0].split("; ")
    if part.strip()
]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project in which each file that a page tells to write is written."""
    folder = copy_tree(tmp_path_factory.mktemp("docs"))
    shutil.copytree(ROOT / "slurm", folder / "slurm")
    for name, text in WHOLE.items():
        assert not (folder / name).exists(), "an example is a new file"
        (folder / name).write_text(text)
    return folder


class Loads(HTMLParser):
    """What a page loads by itself; where a link leads when it is clicked is another matter."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        loads = LOADS | ({"href"} if tag == "link" else set())
        told = dict(attributes)
        if told.get("rel") not in ("prev", "next", "canonical"):
            self.found += [value for name, value in attributes if name in loads and value]


def test_no_page_loads_anything_from_the_network(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        parser = Loads()
        parser.feed(page.read_text())
        assert parser.found
        for address in parser.found:
            assert not re.match(r"(\w+:)?//", address), f"{page.name} loads {address}"
            if page.name != "404.html" and not address.startswith("data:"):
                assert (page.parent / address.partition("?")[0]).is_file(), (
                    f"{page.name} loads {address}, which is not there"
                )
        assert 'class="mermaid"' not in page.read_text(), "the theme would load its program from the network"
    for style in site.rglob("*.css"):
        loads = re.findall(r"(?:url\(|@import )[\"']?((?:\w+:)?//[^)\"']+)", style.read_text())
        assert not loads, f"{style.name} loads {loads}"


def test_what_is_generated_is_there_and_is_not_committed(site):
    made = {path.stem for path in site.glob("reference/*.html")}
    assert {"commands", "studies", "recipes", "protocols", "manifests"} <= made
    assert not list(ROOT.glob("docs/reference/*"))
    recipes = (site / "reference/recipes.html").read_text()
    assert all(f'id="{path.stem}"' in recipes for path in ROOT.glob("config/recipes/*.yaml"))


def test_the_toy_kind_is_shown_as_it_is_tested(site):
    shown = html.unescape(re.sub(r"<[^>]+>", "", (site / "how-to/kind.html").read_text()))
    for name, text in FILES.items():
        assert name in shown and text.strip() in shown, f"{name} is not shown as tests/workflow/test_toys.py has it"


@pytest.mark.parametrize(("page", "title", "text"), EXAMPLES, ids=[f"{page}-{title}" for page, title, _ in EXAMPLES])
def test_an_example_is_accepted(project, monkeypatch, page, title, text):
    monkeypatch.chdir(project)
    found = yaml.safe_load(text)
    if title.startswith("config/recipes/"):
        found = STUDY | {"runs": {"mine": {"method": Path(title).stem}}}
    elif title == "in a study":
        found = STUDY | found
    path = Path("config/example.yaml")
    path.write_text(yaml.safe_dump(found))
    assert len(list(Graph(load_study(path)))) >= 3


def test_every_yaml_block_of_the_site_says_what_it_is():
    bare = [(page, text) for page, title, text in blocks("yaml") if not title and page != "README.md"]
    assert not bare, "give it a title: the file it is, or `in a study`"


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=[f"{page}-{' '.join(words)}" for page, words in COMMANDS])
def test_a_command_is_accepted(project, monkeypatch, page, words):
    monkeypatch.chdir(project)
    while "=" in words[0]:  # a variable for one command
        words = words[1:]
    program, *arguments = words
    check = {"make": check_make, "python": check_python, "snakemake": check_snakemake, "dvc": check_dvc}
    if program in check:
        check[program](arguments)
    elif program == "envs/slurm/cluster":
        assert f"{program} {arguments[0]} " in (ROOT / program).read_text(), "as its own head has it"
    else:
        assert program in OUTSIDE, f"{page} tells to run {program}"


def test_every_verb_and_module_that_is_named_exists():
    """In running text as well."""
    for page in PAGES:
        for code in re.findall(r"`([^`\n]+)`", page.read_text()):
            words = code.split()
            if words[0] == "make" and len(words) > 1:
                check_make(words[1:])
            for module in re.findall(r"python -m ((?:stages|pipeline|benchmarks)[\w.]*)", code):
                assert is_module(module), f"{page.name} names {module}"
            for path in re.findall(r"^(?:pipeline|stages|tests|config|envs|slurm|docs)/[\w./-]+\w$", code):
                assert (ROOT / path).exists() or path in WHOLE or "mine" in path, f"{page.name} names {path}"


def test_the_plan_of_the_tutorial_is_what_it_says(project):
    """Its own line, run as it stands there."""
    line = ["snakemake", "-n", "--configfile=config/mine.yaml", "all"]
    assert ("tutorial.md", line) in COMMANDS
    done = subprocess.run([sys.executable, "-m", *line], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^total +27$", done.stdout, re.M), "1 set, 4 runs and 1 task at 3 seeds each, the report, all"


def check_make(arguments: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for argument in arguments:
        name, changed, _ = argument.partition("=")
        known = rf"\$\({name}\)" if changed else rf"^{name}:.*## "
        assert re.search(known, makefile, re.M), f"make {argument}: there is no {name}"


def check_python(arguments: list[str]) -> None:
    assert arguments[0] == "-m" and is_module(arguments[1])
    module, options = arguments[1], dict(zip(arguments[2::2], arguments[3::2], strict=False))
    if not module.startswith("stages."):
        return
    declared = "".join((ROOT / f"stages/{name}.py").read_text() for name in ("__init__", module.partition(".")[2]))
    for option in options:
        assert f'"{option}"' in declared, f"{module} has no {option}"
    if "--run" in options:
        stage = options.get("--task", "pretrain")
        graph(options["--study"]).node(stage, options["--run"], options["--seed"])


def check_snakemake(arguments: list[str]) -> None:
    from snakemake.cli import parse_args

    _, given = parse_args(arguments)
    study = os.path.relpath((given.configfile or ["config/demo.yaml"])[0])
    if study in WHOLE or study in FILES:  # the reader's own, with what the pages tell to put into it
        return
    assert set(given.targets) <= {"all", *(str(node.manifest) for node in graph(study))}


@cache
def graph(study: str) -> Graph:
    return Graph(load_study(study))


def check_dvc(arguments: list[str]) -> None:
    from dvc.cli import parse_args

    parse_args(arguments)


def is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()
