"""What MkDocs is told while it builds: pages made from the code, and lines of pages that stand for parts of it.

{{ toy FILE }}          a file of the toy kind that tests/workflow/test_toys.py runs
{{ file PATH }}         a file of the repository
{{ constant PATH NAME }}    a text that a module defines
{{ departures METHOD }} the paragraph of that name in a method's docstring
{{ figure METHOD }}     its drawing, of docs/drawings.py
{{ recipe METHOD }}, {{ runs METHOD }}, {{ reported METHOD }}   what files say of it, see docs/systems.py
{{ made MODULE FUNCTION }}  what a function of the project returns

On pages of methods a line `$$ ... $$`, and `$...$` in a line, is LaTeX. It becomes MathML, which browsers show by
themselves.
"""

import ast
import os
import re
from importlib import import_module
from pathlib import Path
from typing import Any

from drawings import FIGURES  # beside this file, which MkDocs adds to the path
from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from reference import PAGES
from systems import recipe, reported, runs

ROOT = Path(__file__).parent.parent
# Pages that stand at the top of the repository, where its visitors look for them.
TOP = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".sh": "sh"}


def on_files(files: Files, config: Any) -> Files:
    """Add what is generated; none of it is ever written into the repository."""
    os.chdir(ROOT)  # the configuration is read relative to it
    for name in TOP:
        text = (ROOT / name).read_text().replace("](docs/", "](")
        files.append(File.generated(config, name.lower(), content=text))
    for name, page in PAGES.items():
        files.append(File.generated(config, f"reference/{name}.md", content=page()))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Fill in what stands for a part of the code, and lead links to the top of the repository to their pages."""
    if page.file.src_uri.startswith("methods/"):
        markdown = re.sub(r"^\$\$ (.+) \$\$$", _equation, markdown, flags=re.MULTILINE)
        markdown = re.sub(r"\$([^$\n]+)\$", lambda found: convert(found[1]), markdown)
    for name in TOP:
        markdown = markdown.replace(f"](../{name})", f"]({name.lower()})")
    return re.sub(
        r"^\{\{ (\w+) (.+) \}\}$", lambda line: PARTS[line[1]](*line[2].split()), markdown, flags=re.MULTILINE
    )


def toys() -> dict[str, str]:
    """The files of the toy kind, as the test writes them."""
    return {name: text.lstrip() for name, text in constant_of("tests/workflow/test_toys.py", "FILES").items()}


def constant_of(path: str, name: str) -> Any:
    """What a module's constant holds; the module is read, not run.

    Raises:
        KeyError: it has no such constant.
    """
    for node in ast.parse((ROOT / path).read_text()).body:
        if isinstance(node, ast.Assign) and any(ast.unparse(target) == name for target in node.targets):
            return ast.literal_eval(node.value)
    raise KeyError(f"{path} has no constant {name}")


def departures(method: str) -> str:
    """What a method does otherwise than its paper or its authors' code.

    Raises:
        KeyError: its docstring does not say.
    """
    doc = ast.get_docstring(ast.parse((ROOT / f"pipeline/methods/{method}.py").read_text())) or ""
    _, found, rest = doc.partition("Departures: ")
    if not found:
        raise KeyError(f"pipeline/methods/{method}.py has no paragraph Departures")
    first, *others = rest.split("\n- ")
    points = [" ".join(point.split()) for point in (first.split("\n\n")[0], *others)]
    return "\n".join(
        [f"{points[0][0].upper()}{points[0][1:]}", *(["", *(f"- {point}" for point in points[1:])] if others else [])]
    )


def _equation(found: re.Match[str]) -> str:
    """One that may be wider than a telephone, and is then scrolled by keys too."""
    return f'<div class="equation" tabindex="0">{convert(found[1], display="block")}</div>'


def _block(path: str, text: str) -> str:
    return f'```{LANGUAGES[Path(path).suffix]} title="{path}"\n{text.rstrip()}\n```'


PARTS = {
    "toy": lambda name: _block(name, toys()[name]),
    "file": lambda path: _block(path, (ROOT / path).read_text()),
    "constant": lambda path, name: f"> {constant_of(path, name)}",
    "departures": departures,
    "figure": FIGURES.__getitem__,
    "recipe": recipe,
    "runs": runs,
    "reported": reported,
    "made": lambda module, name: getattr(import_module(module), name)(),
}
