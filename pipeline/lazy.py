"""Import of large packages by need: what a package re-exports is imported when it is asked for.

`mmdet.models` imports every detector there is, and with them scipy, pandas, sklearn and matplotlib: 9.5 seconds for a
process that builds one Mask R-CNN. The `__init__` files of these packages say no more than `from .file import Name`;
here they are read and not run, and `Name` is imported on first use. What is imported so is the same; what a registry
would find by name has to be imported by the module that needs it.
"""

import ast
import importlib
import importlib.abc
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGES = (
    "mmdet",
    "mmengine._strategy",
    "mmengine.model",
    "mmengine.optim",
    "mmengine.runner",
    "mmseg",
    "timm",
)


class LazyPackages(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the named packages, and the packages inside them, and puts off what their `__init__` files import."""

    def __init__(self, packages: Sequence[str]) -> None:
        self.packages = tuple(packages)

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if not any(f"{name}.".startswith(f"{package}.") for package in self.packages):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is None or spec.submodule_search_locations is None or not _only_imports(_parse(spec)):
            return None
        spec.loader = self
        return spec

    def create_module(self, spec: ModuleSpec) -> None:
        """Python's own empty module will do."""

    def exec_module(self, module: ModuleType) -> None:
        module.__class__ = _LazyModule
        homes, stars = _exports(_parse(module.__spec__))
        vars(module).update(_homes=homes, _stars=stars, __all__=list(homes))


class _LazyModule(ModuleType):
    """A package that imports what it re-exports when asked for it."""

    _homes: dict[str, tuple[str, str]]
    _stars: list[str]

    def __getattr__(self, name: str) -> Any:
        if name in self._homes:
            source, name_there = self._homes[name]
            if source.strip("."):
                value = getattr(importlib.import_module(source, self.__name__), name_there)
            else:  # `from . import file`
                value = importlib.import_module(source + name_there, self.__name__)
        elif name.startswith("__"):
            raise AttributeError(name)
        else:
            value = _search(name, self._stars, self)
        vars(self)[name] = value
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        # The import of `losses/accuracy.py` puts the file on the package, where the function of that name belongs.
        if not (name in self._homes and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


def install(packages: Sequence[str] = PACKAGES) -> None:
    """Put off the imports of `packages` in this process; a second call changes nothing."""
    if not any(isinstance(finder, LazyPackages) for finder in sys.meta_path):
        sys.meta_path.insert(0, LazyPackages(packages))


def _parse(spec: ModuleSpec | None) -> ast.Module:
    assert spec is not None and spec.origin is not None
    return ast.parse(Path(spec.origin).read_text())


def _only_imports(tree: ast.Module) -> bool:
    """Whether a file does nothing but import names and list them, be it under a condition."""

    def harmless(node: ast.stmt) -> bool:
        if isinstance(node, ast.If | ast.Try):
            inner = [
                *node.body,
                *node.orelse,
                *(part for h in getattr(node, "handlers", ()) for part in h.body),
            ]
            return all(map(harmless, inner))
        text = ast.unparse(node)
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        onnx = text == "_register_custom_op()"  # torchvision.ops, for export to ONNX only
        return docstring or onnx or isinstance(node, ast.ImportFrom | ast.Pass) or text.startswith("__all__")

    return all(map(harmless, tree.body))


def _exports(tree: ast.Module) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """Where each name comes from (file, name there), and the files all of whose names are taken over."""
    homes: dict[str, tuple[str, str]] = {}
    stars: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            stars += [source for alias in node.names if alias.name == "*"]
            homes |= {alias.asname or alias.name: (source, alias.name) for alias in node.names if alias.name != "*"}
    return homes, stars


def _search(name: str, stars: Sequence[str], module: ModuleType) -> Any:
    """What `from .file import *` has under `name`; only files that define it are imported."""
    for source in reversed(stars):
        spec = importlib.util.find_spec(source, module.__name__)
        assert spec is not None and spec.origin is not None
        if name in Path(spec.origin).read_text() and name in _defined(_parse(spec)):
            return getattr(importlib.import_module(source, module.__name__), name)
    raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")


def _defined(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names
