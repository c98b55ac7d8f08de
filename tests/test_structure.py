"""Structure of the package: no import cycles, layers, folders that the architecture page names."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import ncsnx
from ncsnx.commands.command import built_in_commands

ROOT = Path(ncsnx.__file__).parent
FLOORS = (
    (
        *("errors", "spelling", "version", "quantities", "randomness", "stopping", "work", "registering", "shot_noise"),
        *("ranks", "tensorfloat", "docstrings", "bounded_reads"),
    ),
    ("config", "schedules", "paths", "storage", "notebooks", "results"),
    (
        *("data", "networks", "samplers", "images", "sampling", "inverse", "runtime", "runs", "exports", "space"),
        *("model_spec",),
    ),
    ("exchange", "training", "features", "metrics", "evaluation", "planning"),
    ("reporting", "tracking"),
    ("jobs", "sweeps"),
    ("console", "page"),
    ("commands",),
    ("cli",),
)
"""Layers from the bottom up: a module imports nothing from a layer above its own."""
BUDGET = 47739
"""Most lines of the package. A commit that adds a feature may raise it; its message says what the lines are for."""

COMMANDS = "|".join([*(one.name for one in built_in_commands()), r"\{\}"])
COMMAND = re.compile(
    rf"\bncsnx (?:{COMMANDS})(?![a-z])[^`\n]*|hf download [^`\n]*|git (?:rev-parse|status|diff|ls-files) [^`\n]*"
    r"|(?:trackio show|mlflow ui) [^`\n]*"
)
"""A complete command to type, up to the end of its line or code span."""
OPTION = re.compile(r"(?<![\w-])--(?:[a-z]|\{\})")
NAME = re.compile(r"--[a-z-]+")
"""A name that a parameter declares."""


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        name = ".".join(("ncsnx", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
        found[name] = path
    return found


MODULES = modules()


def imports(path: Path) -> set[str]:
    """Modules of the package that a file imports, including imports in functions and for types."""
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ncsnx"):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in MODULES}
    return found


def folders(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The same graph, of folders and modules beside them."""
    found: dict[str, set[str]] = {}
    for name, others in graph.items():
        room = ".".join(name.split(".")[:2])
        found.setdefault(room, set()).update(".".join(other.split(".")[:2]) for other in others)
    return {room: others - {room, "ncsnx"} for room, others in found.items() if room != "ncsnx"}


@pytest.mark.parametrize("of", [dict, folders], ids=["modules", "folders"])
def test_nothing_imports_itself_by_way_of_others(of: Callable[[dict[str, set[str]]], dict[str, set[str]]]) -> None:
    graph = of({name: imports(path) - {name} for name, path in MODULES.items()})
    done: set[str] = set()

    def walk(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, f"a circle: {' → '.join((*way[way.index(name) :], name))}"
        if name not in done:
            for other in sorted(graph.get(name, ())):
                walk(other, (*way, name))
            done.add(name)

    for name in graph:
        walk(name, ())


def test_a_module_looks_down() -> None:
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    rooms = {name.split(".")[1] for name in MODULES if "." in name}
    assert rooms == {*floor, "__main__"}
    upward = set()
    for name, path in MODULES.items():
        room = name.split(".")[1] if "." in name else None
        for other in imports(path):
            target = other.split(".")[1] if "." in other else None
            if room in floor and target in floor and floor[target] > floor[room]:
                upward.add((room, target))
    assert upward == set()


def test_the_package_has_no_more_lines_than_its_budget() -> None:
    assert sum(len(path.read_text().splitlines()) for path in MODULES.values()) <= BUDGET


def test_the_architecture_page_has_every_floor_and_folder() -> None:
    page = (ROOT.parent / "docs" / "project" / "architecture.md").read_text()
    rows = page.split("```text\n")[1].split("```")[0]
    assert [set(re.findall("[a-z_]+", row)) for row in rows.splitlines()] == list(map(set, reversed(FLOORS)))
    for folder in ROOT.iterdir():
        if folder.is_dir() and (folder / "__init__.py").exists():
            assert f"| `{folder.name}/` |" in page


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of the strings of a file, including docstrings; values in f-strings are {}."""
    tree = ast.parse(path.read_text())
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield (
                node.lineno,
                "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values),
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.lineno, node.value


def test_the_library_names_no_option_but_in_a_whole_command() -> None:
    """The library names parameters by `ncsnx.spelling`, as the caller types them."""
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for path in MODULES.values()
        if ROOT / "cli" not in path.parents and path != ROOT / "commands" / "command.py"
        for line, text in texts(path)
        if OPTION.search(COMMAND.sub("", text)) and not (path.parent.name == "commands" and NAME.fullmatch(text))
    ]
    assert found == []
