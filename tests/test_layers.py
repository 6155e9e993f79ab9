"""The direction of dependencies, read from the real imports, and what no file of the project may name."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted([*ROOT.glob("pipeline/**/*.py"), *ROOT.glob("stages/**/*.py")])

# What each room may import of the project, besides itself. Rooms are packages, or modules at the top of pipeline/.
CORE = {"config", "files", "manifest"}
ALLOWED = {
    "__init__": set(),
    "config": set(),
    "files": set(),
    "manifest": {"files"},
    "lock": set(),
    "local": {"files", "manifest"},
    "devices": set(),
    "cost": CORE | {"devices", "graph"},
    "graph": {"config"},
    "cell": CORE | {"graph", "local"},
    "plan": {"config", "graph"},
    "statistics": set(),
    "freshness": CORE | {"graph"},
    "batches": {"graph"},
    "pace": set(),
    "forkserver": set(),
    "data": CORE | {"cell"},
    "masking": {"config"},
    "nn": {"masking", "config", "files"},
    "methods": {"masking", "nn", "config"},
    "engine": {"methods", "masking", "nn", "data", "cell", "lock", *CORE},
    "tasks": {"statistics", "engine", "methods", "masking", "nn", "data", "cell", *CORE},
    "report": {"statistics", "cell", "devices", "graph", *CORE},
    "stages": {"report", "tasks", "engine", "data", "cell", "cost", "devices", "graph", "plan", "lock", *CORE},
}
HEAVY = {"torch", "torchvision", "timm", "mmengine", "mmcv", "mmdet", "mmseg"}
TORCH_FREE = (
    "config", "files", "manifest", "lock", "local", "devices", "graph", "cost", "cell", "plan", "freshness", "pace",
    "batches", "forkserver", "report",
)  # fmt: skip


def room(file: Path) -> str:
    first, *rest = file.relative_to(ROOT).with_suffix("").parts
    return "stages" if first == "stages" else rest[0]


@cache
def imports(file: Path) -> frozenset[str]:
    """Full names of all that a file imports, inside functions too."""
    package = file.relative_to(ROOT).parent.parts
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = (
                ".".join((*package[: len(package) - node.level + 1], node.module or "")) if node.level else node.module
            )
            names |= {f"{base.rstrip('.')}.{alias.name}" for alias in node.names}
    return frozenset(names)


def rooms_of(file: Path) -> set[str]:
    """The rooms of the project that a file imports from, besides its own."""
    found = set()
    for name in imports(file):
        first, *rest = name.split(".")
        if first == "stages":
            found.add("stages")
        elif first == "pipeline" and rest:
            found.add(rest[0])
    return found - {room(file)}


def name_of(file: Path) -> str:
    return str(file.relative_to(ROOT))


def test_every_room_has_its_place():
    rooms = {room(file) for file in FILES} - {"__init__"}
    assert rooms <= set(ALLOWED), f"say in ALLOWED what {sorted(rooms - set(ALLOWED))} may import"


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_dependencies_point_one_way(file):
    if room(file) == "__init__":
        assert imports(file) == set(), "pipeline/__init__.py imports nothing: planning stays fast"
        return
    beyond = rooms_of(file) - ALLOWED[room(file)]
    assert not beyond, f"{name_of(file)} imports from {sorted(beyond)}; allowed: {sorted(ALLOWED[room(file)])}"


def test_the_rooms_form_no_circle():
    """The table above is itself one-way."""
    left = dict(ALLOWED)
    while left:
        free = [name for name, needs in left.items() if not needs & left.keys()]
        assert free, f"a circle among {sorted(left)}"
        left = {name: needs for name, needs in left.items() if name not in free}


def test_detection_and_segmentation_libraries_stay_in_their_tasks():
    glue = {"pipeline/tasks/detect.py", "pipeline/tasks/segment.py"}
    for file in FILES:
        met = {name.split(".")[0] for name in imports(file)} & {"mmdet", "mmseg", "mmcv"}
        at_home = name_of(file) in glue or name_of(file).startswith("pipeline/tasks/dense/")
        assert not met or at_home, f"{name_of(file)} imports {sorted(met)}"


def test_what_plans_and_reports_is_free_of_torch():
    seen = set()
    for file in FILES:
        if room(file) in TORCH_FREE:
            seen.add(room(file))
            heavy = {name.split(".")[0] for name in imports(file)} & HEAVY
            assert not heavy, f"{name_of(file)} imports {sorted(heavy)}"
    assert seen == set(TORCH_FREE)


def test_stages_import_what_is_heavy_only_when_they_run():
    """`--help` and a mistake in a study are told at once."""
    for file in ROOT.glob("stages/*.py"):
        top = [node for node in ast.parse(file.read_text()).body if isinstance(node, (ast.Import, ast.ImportFrom))]
        for node in top:
            names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            for name in names:
                heavy = name.split(".")[0] in HEAVY or name.startswith(("pipeline.tasks", "pipeline.methods"))
                assert not heavy, f"{name_of(file)} imports {name} before it knows what to do"


def test_every_file_says_what_it_is():
    for file in FILES:
        docstring = ast.get_docstring(ast.parse(file.read_text()))
        assert docstring and docstring.splitlines()[0].endswith((".", ":", "?")), f"{name_of(file)} has no docstring"


def test_no_file_names_a_place_outside_the_project():
    """Paths of one machine break on the next; `/proc`, `/dev` and `/etc` are the system's own."""
    patterns = [r"\.\./shared", r"/work/", r"/tmp/", r"(?<![\w.{}])/(?:home|root|Users|mnt|data|opt)/\w"]
    files = [*FILES, ROOT / "Snakefile", ROOT / "dvc.yaml", *ROOT.glob("config/**/*.yaml"), *ROOT.glob("profiles/*/*")]
    for file in files:
        for number, line in enumerate(file.read_text().splitlines(), 1):
            for pattern in patterns:
                assert not re.search(pattern, line), f"{name_of(file)}:{number} names a place: {line.strip()}"


def test_no_pickle_is_loaded_whole():
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called, given = (
                ast.unparse(node.func),
                {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords},
            )
            where = f"{name_of(file)}:{node.lineno} {called}"
            assert called not in ("pickle.load", "pickle.loads", "joblib.load", "yaml.unsafe_load", "eval", "exec"), (
                where
            )
            if called == "torch.load":
                assert given.get("weights_only") == "True", where
            if called in ("np.load", "numpy.load"):
                assert given.get("allow_pickle", "False") == "False", where
