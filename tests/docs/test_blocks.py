"""Code blocks of README and pages: commands exist, Python compiles; the reference has every variant and field."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

import attrs
import pytest
import typer

from docs import references
from ncsnx.cli import app
from ncsnx.config import Data, Experiment, Grid, Model, Optimizer, Sampler, Schedule
from ncsnx.config.discovery import UnknownExperimentError, resolve
from ncsnx.config.overrides import apply_overrides, parse_overrides, split_overrides
from ncsnx.config.variants import variants
from ncsnx.sweeps.points import sweep_points
from tests.docs.blocks import PAGES, ROOT, SHOWN, Block, blocks_of
from tests.docs.links import broken_in_markdown

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
INSTALLED_BY_PAGES = ("steps", "power", "dpmpp-2s", "plain", "wrapped", "rings", "mean-shift", "row-sums", "huber")
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


FILLED_IN = {"project/contributing.md", "project/changelog.md"}
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


def test_the_reference_is_what_the_classes_say() -> None:
    written = references.pages()
    assert {name: (references.FOLDER / name).read_text(encoding="utf-8") for name in written} == written


def test_an_extra_is_installed_from_a_clone_until_there_is_an_index() -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in [*PAGES, *(ROOT / "ncsnx").rglob("*.py")]}
    assert [path for path, text in texts.items() if "pip install 'ncsnx" in text or '"ncsnx[' in text] == []


def fields_in_the_reference(heading: str) -> dict[str, str]:
    """Field → its line, in the section of a heading."""
    page = (references.FOLDER / "configuration.md").read_text(encoding="utf-8")
    (section,) = re.findall(rf"^##+ {re.escape(heading)}\n(.*?)(?=^##|\Z)", page, re.M | re.S)
    return {line.split("`")[1].split(":")[0]: line for line in section.splitlines() if line.startswith("- `")}


@pytest.mark.parametrize(
    ("key", "family"),
    [
        ("data", Data),
        ("schedule", Schedule),
        ("model", Model),
        ("optimizer", Optimizer),
        ("sampler", Sampler),
        ("sampler.grid", Grid),
    ],
)
def test_every_field_of_every_variant_is_in_the_reference(key: str, family: type[Any]) -> None:
    common = fields_in_the_reference(family.__name__)

    for tag, variant in variants(family).items():
        if variant.__module__.startswith("ncsnx."):
            own = fields_in_the_reference(f"`{key}={tag}`")
            assert {*own, *common} == {field.name for field in attrs.fields(variant)}


def test_a_field_in_the_reference_says_its_default_and_whether_it_is_outside_the_identity() -> None:
    fields = fields_in_the_reference("Experiment")

    assert set(fields) == {field.name for field in attrs.fields(Experiment)}
    assert fields["batch_size"].startswith("- `batch_size: int = 128`: ")
    assert fields["steps"].startswith("- `steps: int`: ")
    assert {name for name, line in fields.items() if line.endswith("*Outside the identity.*")} == {
        field.name for field in attrs.fields(Experiment) if field.metadata.get("identity", True) is not True
    }
