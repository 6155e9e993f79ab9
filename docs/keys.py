"""Keys that the code checks or writes out, read from its syntax; nothing is run."""

import ast
from collections.abc import Iterable
from pathlib import Path


def checked_keys(path: str, function: str) -> dict[str, str]:
    """Keys that a function of the parser takes, as its call of `check_keys` says, each with whether it is required."""
    for node in ast.walk(_function(path, function)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "check_keys":
            sets = {
                word.arg: ast.literal_eval(word.value) for word in node.keywords if word.arg in ("required", "optional")
            }
            return {key: how for how in ("required", "optional") for key in sets.get(how, ())}
    raise KeyError(f"{function} of {path} checks no keys")


def literal_keys(path: str, function: str) -> list[str]:
    """Keys of the mappings that a function writes out."""
    found = [node for node in ast.walk(_function(path, function)) if isinstance(node, ast.Dict)]
    return [key.value for node in found for key in node.keys if isinstance(key, ast.Constant)]


def record_keys(path: Path) -> Iterable[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Dict):
            keys = [key.value for key in node.keys if isinstance(key, ast.Constant)]
            yield from keys if "metric" in keys and "value" in keys else ()


def _function(path: str, name: str) -> ast.FunctionDef:
    found = [
        n for n in ast.walk(ast.parse(Path(path).read_text())) if isinstance(n, ast.FunctionDef) and n.name == name
    ]
    return found[0]
