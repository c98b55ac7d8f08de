"""Code blocks of README and pages: commands exist, Python compiles; the reference has every variant and field."""

import ast
import importlib
import re
from functools import cache
from pathlib import Path
from typing import Any

import attrs
import pytest
import typer

from ncsnx.cli import app
from ncsnx.commands.command import built_in_commands
from ncsnx.config import Data, Experiment, Grid, Model, Optimizer, Sampler, Schedule
from ncsnx.config.discovery import UnknownExperimentError, resolve
from ncsnx.config.overrides import apply_overrides, parse_overrides, split_overrides
from ncsnx.config.variants import variants
from ncsnx.sweeps.points import sweep_points
from tests.docs.blocks import PAGES, ROOT, SHOWN, Block, blocks_of
from tests.docs.links import broken_in_markdown

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
INSTALLED_BY_PAGES = ("steps", "dpmpp-2s", "plain", "wrapped", "rings", "mean-shift", "row-sums")
"""Names that the pages on adding give to what they add, which isn't installed here."""
PLACEHOLDER = re.compile(r"[A-Z_]{2,}|…|\$\w|=\?$")


def of_kind(kind: str) -> Any:
    return pytest.mark.parametrize(
        "block", [pytest.param(block, id=block.where) for block in BLOCKS if block.kind == kind]
    )


def test_every_block_is_of_a_known_kind() -> None:
    assert [block.where for block in BLOCKS if block.kind not in ("bash", "python", *SHOWN)] == []


@of_kind("python")
def test_python_compiles(block: Block) -> None:
    compile("\n" * block.line + block.text, str(block.page), "exec")


@of_kind("bash")
def test_commands_and_their_options_exist(block: Block) -> None:
    for arguments in block.ncsnx_commands:
        parsed(arguments)


@of_kind("bash")
def test_fields_that_are_set_exist(block: Block) -> None:
    for arguments in block.ncsnx_commands:
        overrides = [word for word in arguments if re.match(r"[a-z_.]+=", word) and not PLACEHOLDER.search(word)]
        if any(name in word for word in overrides for name in INSTALLED_BY_PAGES):
            continue
        experiment = experiment_of(arguments)
        if arguments[0] == "sweep":
            changes = split_overrides(parse_overrides(overrides), "features")[1]
            sweep_points("digits", experiment, {}, changes, zipped="--zip" in arguments, seeds=2)
            continue
        sampler = [word for word in overrides if not word.startswith(("features", "metrics"))]
        if "sampler=fast" not in sampler:
            apply_overrides(experiment, parse_overrides(sampler))


@cache
def application() -> Any:
    return typer.main.get_group(app)


@cache
def registered(name: str) -> Experiment:
    return resolve(name).experiment


def parsed(arguments: list[str]) -> Any:
    """The innermost command's context, with what was typed converted and checked."""
    command: Any = application()
    context: Any = command.context_class(command, info_name="ncsnx")
    rest = list(arguments)
    while hasattr(command, "commands"):
        if not rest or rest[0].startswith("-"):
            command.make_parser(context).parse_args(args=rest)  # such as --version
            return context
        if rest[0] in INSTALLED_BY_PAGES:
            return context
        name = rest.pop(0)
        inner = command.get_command(context, name)
        assert inner is not None, f"there is no command {name!r} in {' '.join(['ncsnx', *arguments])}"
        command = inner
        context = command.context_class(command, info_name=name, parent=context)
    if "--help" not in rest:
        command.make_context(context.info_name, rest, parent=context.parent)
    return context


def experiment_of(arguments: list[str]) -> Experiment:
    """The experiment that a command names, of a run of its name; else the digits."""
    for word in arguments[1:]:
        if "=" not in word and not word.startswith("-") and not Path(word).is_absolute():
            try:
                return registered(str(ROOT / word) if word.endswith(".py") else word)
            except UnknownExperimentError:
                continue
    return registered("digits")


FILLED_IN = {"project/contributing.md", "project/changelog.md", "reference/commands.md", "reference/configuration.md"}
"""Pages whose headings come when the site is built; the session `docs` checks links to these."""


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    found = broken_in_markdown(page, ROOT)
    assert [line for line in found if not any(f"{filled}#" in line for filled in FILLED_IN)] == []


_NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def test_a_test_that_a_page_names_exists() -> None:
    named = {found for page in PAGES for found in _NAMED.findall(page.read_text(encoding="utf-8"))}
    assert len(named) >= 16  # the table of the page on testing
    for file, name in named:
        functions = ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8")))
        assert not name or name in {node.name for node in functions if isinstance(node, ast.FunctionDef)}, (file, name)


def test_what_the_site_adds_to_a_page_can_be_had_without_it() -> None:
    folder = ROOT / "docs" / "reference"
    filled = {
        name: (folder / name).read_text(encoding="utf-8") for name in ("commands.md", "configuration.md", "python.md")
    }
    assert all("<!-- made from" in text for text in filled.values())
    assert all(re.search(r"`(ncsnx (help|show) |help\()", text) for text in filled.values())
    named = re.findall(r"^\| `([a-z ]+)` \| (.+) \|$", filled["commands.md"], re.MULTILINE)
    assert named == [(one.name, (one.kind.__doc__ or "").strip().splitlines()[0]) for one in built_in_commands()]


def test_an_extra_is_installed_from_a_clone_until_there_is_an_index() -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in [*PAGES, *(ROOT / "ncsnx").rglob("*.py")]}
    assert [path for path, text in texts.items() if "pip install 'ncsnx" in text or '"ncsnx[' in text] == []


@pytest.fixture
def sections(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Name of a class → what the page says of it."""
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "extensions"))
    page = importlib.import_module("configuration_reference").markdown()
    parts = (part.partition("\n") for part in page.split(":::::{py:class} ")[1:])
    return {name.rpartition(".")[2]: text for name, _, text in parts}


@pytest.mark.parametrize("family", [Data, Schedule, Model, Optimizer, Sampler, Grid])
def test_every_field_of_every_variant_is_there(family: type[Any], sections: dict[str, str]) -> None:
    common = set(re.findall(r"{py:attribute} (\w+)", sections[family.__name__]))

    for variant in variants(family).values():
        if variant.__module__.startswith("ncsnx."):
            own = set(re.findall(r"{py:attribute} (\w+)", sections[variant.__name__]))
            assert own | common == {field.name for field in attrs.fields(variant)}


def test_a_field_says_its_default_and_whether_it_is_outside_the_identity(sections: dict[str, str]) -> None:
    fields = {text.split("\n")[0]: text for text in sections["Experiment"].split("{py:attribute} ")[1:]}

    assert set(fields) == {field.name for field in attrs.fields(Experiment)}
    assert ':value: "128"' in fields["batch_size"]
    assert ":value:" not in fields["steps"]
    outside = {name for name, text in fields.items() if "*Outside the identity.*" in text}
    assert outside == {
        field.name for field in attrs.fields(Experiment) if field.metadata.get("identity", True) is not True
    }


def test_a_range_that_the_docstring_has_is_not_repeated(sections: dict[str, str]) -> None:
    assert "1 to 1,000,000" in sections["Experiment"]
    assert "Accepted: between 1 and 1,000,000" not in "".join(sections.values())
