"""The page itself: templates of `reports/templates/`, filled once, everything it shows inside it."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.report.figures import PALETTE
from pipeline.report.words import sentence

TEMPLATES = Path(__file__).parents[2] / "reports" / "templates"


def render(template: str, **content: Any) -> str:
    """A page as one string of HTML that asks the network for nothing.

    Args:
        template: its name in `reports/templates/`.
        content: what the template names; a name it lacks is an error.
    """
    return _environment().get_template(template).render(**content)


@cache  # with the templates that it compiled; of one that is changed it takes notice
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "inline": Markup,  # our own markup; everything else is escaped
        "themed": _themed,
        "anchor": lambda key: "cell-" + re.sub(r"[^A-Za-z0-9-]+", "-", key),
        "bytes": lambda count: f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.1f} kB",
        "pretty": _pretty,
        "embedded": _embedded,
        "sentence": sentence,
    }
    environment.globals["read"] = lambda name: Markup((TEMPLATES / name).read_text())
    return environment


def _themed(svg: str) -> Markup:
    """A figure whose lines follow the page's palette; files beside the page keep colours any viewer reads."""
    for i, color in enumerate(PALETTE):
        svg = svg.replace(color, f"var(--line-{i}, {color})")
    return Markup(svg)


def _pretty(content: Any) -> Markup:
    """JSON for a `<pre>`; quotes stay as they are, which keeps manifests small and copyable."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    return Markup(text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


def _embedded(content: Any) -> Markup:
    """JSON for a `<script>`, in which nothing can end the script."""
    return Markup(json.dumps(content, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"))
