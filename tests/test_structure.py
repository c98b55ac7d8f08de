"""The package as a building: no circle of imports, no two modules of one name, no crowded folder, one way to look."""

import ast
from collections import Counter
from pathlib import Path

import pytest

import ncsnx

ROOT = Path(ncsnx.__file__).parent
FLOORS = (
    ("errors", "version", "quantities", "randomness", "stopping", "work", "registering"),
    ("config", "noise", "paths", "storage"),
    ("data", "networks", "samplers", "images", "sampling", "inverse", "runtime", "runs"),
    ("exchange", "training", "features", "metrics", "evaluation", "planning"),
    ("console",),
    ("cli",),
)
"""From the ground up: a module imports nothing of a floor above its own, but for what TALKS."""
TALKS = {
    ("metrics", "runs"),
    ("runs", "exchange"),
    ("sampling", "exchange"),
}
"""Known looks upward that are still to be taken away: names put into words, and what an export is."""
MOST_FILES = 14
"""Of a folder, before it gets rooms; the list of commands is as long as it is."""
CROWDED = {"config": 20, "cli/commands": 18, "cli": 18}
"""Folders that have more today. They may not grow."""


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        name = ".".join(("ncsnx", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
        found[name] = path
    return found


MODULES = modules()


def imports(path: Path) -> set[str]:
    """The modules of the package that a file imports, inside functions and for types too."""
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


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {name: imports(path) - {name} for name, path in MODULES.items()}
    done: set[str] = set()

    def walk(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, f"a circle: {' → '.join((*way[way.index(name) :], name))}"
        if name not in done:
            for other in sorted(graph[name]):
                walk(other, (*way, name))
            done.add(name)

    for name in graph:
        walk(name, ())


def test_a_module_looks_down() -> None:
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    upward = set()
    for name, path in MODULES.items():
        room = name.split(".")[1] if "." in name else None
        for other in imports(path):
            target = other.split(".")[1] if "." in other else None
            if room in floor and target in floor and floor[target] > floor[room]:
                upward.add((room, target))
    assert upward <= TALKS


def test_no_two_modules_share_a_name_but_for_commands() -> None:
    names = Counter(path.name for path in ROOT.rglob("*.py") if path.parent.name != "commands")
    assert [name for name, count in names.items() if count > 1 and name != "__init__.py"] == []


@pytest.mark.parametrize("folder", sorted({path.parent for path in ROOT.rglob("*.py")}), ids=str)
def test_a_folder_is_seen_at_a_glance(folder: Path) -> None:
    files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
    assert len(files) <= CROWDED.get(folder.relative_to(ROOT).as_posix(), MOST_FILES)


def test_the_readme_lists_every_folder() -> None:
    readme = (ROOT.parent / "README.md").read_text()
    for folder in ROOT.iterdir():
        if folder.is_dir() and (folder / "__init__.py").exists():
            assert f"\n      {folder.name}/ " in readme
