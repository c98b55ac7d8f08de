"""Commands, options and fields that README and pages tell people to type exist, and Python compiles."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from ncsnx.cli import app
from ncsnx.config import Experiment
from ncsnx.config.discovery import UnknownExperimentError, resolve
from ncsnx.config.overrides import apply_overrides, parse_overrides, split_overrides
from ncsnx.sweeps.points import sweep_points
from tests.docs.blocks import PAGES, ROOT, SHOWN, Block, blocks_of
from tests.docs.links import anchors, broken_in_markdown, broken_in_site

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


def test_every_block_that_is_not_run_says_why() -> None:
    assert [block.where for block in BLOCKS if block.not_run is not None and len(block.not_run.split()) < 2] == []


def test_no_line_to_type_begins_with_a_prompt() -> None:
    assert [block.where for block in BLOCKS if block.kind == "bash" and re.search(r"^[$>] ", block.text, re.M)] == []


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
            apply_overrides(experiment, {}, parse_overrides(sampler))


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


def test_a_command_that_does_not_exist_is_found() -> None:
    with pytest.raises(AssertionError, match="no command 'trian'"):
        parsed(["trian", "digits"])


def test_an_option_that_does_not_exist_is_found() -> None:
    with pytest.raises(Exception, match="--rnu"):
        parsed(["train", "digits", "--rnu", "x"])


def test_words_to_type_are_found_behind_prefixes_and_in_pipes() -> None:
    text = "export A=1 && B=2 nohup .venv/bin/ncsnx list | grep x > out.txt\nncsnx show digits \\\n  --origins # why\n"
    block = Block(ROOT / "README.md", 1, "bash", text)

    assert block.ncsnx_commands == [["list"], ["show", "digits", "--origins"]]


def test_steering_comments_count_for_the_next_block_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- not run: too long -->\n```bash\na\n```\n\n<!-- run with: b=1 -->\n\n    ncsnx list\n\n```text\nc\n```\n"
    )

    assert [(block.kind, block.not_run, block.run_with) for block in blocks_of(page)] == [
        ("bash", "too long", ""),
        ("bash", None, "b=1"),
        ("text", None, ""),
    ]


FILLED_IN = {"project/contributing.md", "project/changelog.md", "reference/commands.md", "reference/configuration.md"}
"""Pages whose headings come when the site is built; the session `docs` checks links to these."""


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    found = broken_in_markdown(page, ROOT)
    assert [line for line in found if not any(f"{filled}#" in line for filled in FILLED_IN)] == []


def test_a_broken_link_and_a_missing_anchor_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<h1 id="here">A</h1><a href="#here"></a><a href="b.html#no"></a><img src="c.png">'
    )
    (tmp_path / "b.html").write_text('<a href="a.html#here"></a><a href="https://example.org/x#y"></a>')

    assert list(broken_in_site(tmp_path)) == [
        "a.html: b.html#no has no such anchor",
        "a.html: c.png is no page or file",
    ]


def test_anchors_are_those_of_code_hosts() -> None:
    assert anchors("# `ncsnx fid`: a Score\n\n## Own images, σ_1\n") == {"ncsnx-fid-a-score", "own-images-σ_1"}


_NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def test_a_test_that_a_page_names_exists() -> None:
    named = {found for page in PAGES for found in _NAMED.findall(page.read_text(encoding="utf-8"))}
    assert len(named) >= 16  # the table of the page on testing
    for file, name in named:
        functions = ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8")))
        assert not name or name in {node.name for node in functions if isinstance(node, ast.FunctionDef)}, (file, name)
