"""Tables and values as Markdown has them."""

from collections.abc import Iterable
from typing import Any

import yaml


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def as_yaml(found: Any, code: bool = False) -> str:
    """A value as YAML has it."""
    listed = [list(found) if isinstance(found, tuple) else found]
    text = escape(yaml.safe_dump(listed, default_flow_style=True, allow_unicode=True, width=10**6).strip()[1:-1])
    return f"`{text}`" if code else text


def escape(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
