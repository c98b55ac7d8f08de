"""Help texts, of every command that the application has."""

import contextlib
import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from ncsnx.cli import app
from ncsnx.cli.command_registry import PACKAGES_PANEL, built_in_commands
from ncsnx.cli.help_pages import OPTIONS_PANEL, HelpCommand, page_of, plain, summary
from tests.cli.command import REPOSITORY, run

SUMMARY_CHARACTERS = 64
"""The room on a line of a panel of 80 columns, beside the longest name."""
BUILT: Any = typer.main.get_command(app)


def pages(command: Any, context: typer.Context) -> dict[str, tuple[Any, typer.Context]]:
    """The words that name each command and each group → what Typer built, and its context."""
    found = {context.command_path: (command, context)}
    if hasattr(command, "commands"):
        for name in command.list_commands(context):
            one = command.get_command(context, name)
            found |= pages(one, one.context_class(one, parent=context, info_name=name))
    return found


PAGES = pages(BUILT, BUILT.context_class(BUILT, info_name="ncsnx"))
SUBCOMMANDS = [words for words in PAGES if words != "ncsnx"]


@pytest.mark.parametrize("words", PAGES)
@pytest.mark.parametrize("columns", [80, 60])
def test_no_line_is_wider_than_the_terminal(words: str, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = run(*words.split()[1:], "--help")
    assert shown.code == 0
    assert max(map(len, shown.out.splitlines())) <= columns
    assert "\x1b" not in shown.out
    assert "│" not in shown.out


@pytest.mark.parametrize("words", SUBCOMMANDS)
def test_a_summary_is_a_sentence_on_one_line(words: str) -> None:
    text = summary(PAGES[words][0])
    assert re.fullmatch(r"[A-Z].*[^.]\.", text)
    assert len(text) <= SUMMARY_CHARACTERS


@pytest.mark.parametrize("words", PAGES)
def test_every_parameter_is_explained_and_every_option_of_a_command_is_in_a_panel(words: str) -> None:
    command, context = PAGES[words]
    page = page_of(command, context)
    rows = [row for rows in page.parameters.values() for row in rows]
    assert all(re.match(r"[A-Za-z0-9.]", row.text) and row.text.endswith((".", ")")) for row in rows), rows
    if not hasattr(command, "commands"):
        assert OPTIONS_PANEL not in page.parameters


def test_an_option_that_several_commands_share_is_in_the_same_panel_everywhere() -> None:
    panels: dict[tuple[str, str], set[str]] = {}
    for command, context in PAGES.values():
        for title, rows in page_of(command, context).parameters.items():
            for row in rows:
                panels.setdefault((row.name, row.text), set()).add(title)
    several = {name: titles for (name, _), titles in panels.items() if len(titles) > 1}
    assert several.keys() <= {"--help"}  # groups have it outside of panels


def test_commands_are_in_panels() -> None:
    shown = run("--help").out
    titles = list(dict.fromkeys(one.panel for one in built_in_commands()))
    assert PACKAGES_PANEL not in titles
    assert len(titles) == 4
    assert re.findall(r"^(\w.*):$", shown, re.MULTILINE) == [*titles, OPTIONS_PANEL]
    for one in built_in_commands():
        assert f"\n  {one.name} " in shown[shown.index(f"\n{one.panel}:") :]


def test_brackets_and_paragraphs_of_a_help_text_stay_as_they_are() -> None:
    other = typer.Typer(rich_markup_mode=None)

    def names(which: str = typer.Option("x", "--which", metavar="[A]", help="A [bold] name, [/red] or [1].")) -> None:
        """Show [red]names[/red].

        This line is long enough to be broken, and is followed
        by another one.
        """

    other.command("names", cls=HelpCommand)(names)
    command: Any = typer.main.get_command(other)
    shown = plain(page_of(command, command.context_class(command, info_name="names")), 80)
    assert "Show [red]names[/red]." in shown
    assert re.search(r"^  --which \[A\] +A \[bold\] name, \[/red\] or \[1\]. \[default: x\]$", shown, re.MULTILINE)
    assert "is followed by another" in shown
    assert "Usage: names [OPTIONS]" in shown


def on_terminal(*words: str, columns: int, **environment: str) -> str:
    """The output of the command on a terminal of this width."""
    ours, theirs = pty.openpty()
    try:
        subprocess.run(
            [sys.executable, "-m", "ncsnx", *words],
            stdout=theirs,
            check=True,
            timeout=60,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "COLUMNS": str(columns), **environment},
        )
    finally:
        os.close(theirs)
    written = b""
    with contextlib.suppress(OSError):  # which is how Linux reports the end
        while part := os.read(ours, 65_536):
            written += part
    os.close(ours)
    return written.decode().replace("\r\n", "\n")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads a terminal's output after its end")
def test_a_terminal_shows_boxes_in_colours() -> None:
    shown = on_terminal("list", "--help", columns=80, TERM="xterm")
    assert "╭─" in shown
    assert "\x1b[" in shown
    bare = re.sub("\x1b\\[[0-9;]*m", "", shown)
    assert max(map(len, bare.splitlines())) == 80
    assert re.search(r"│ --runs DIR +Folder of the runs\. \[default: NCSNX_RUNS, else \./runs\]", bare)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads a terminal's output after its end")
def test_no_color_and_an_encoding_without_boxes_are_respected() -> None:
    shown = on_terminal("fid", "--help", columns=80, TERM="xterm", NO_COLOR="1", PYTHONIOENCODING="ascii")
    assert "\x1b" not in shown
    assert shown.isascii()
    assert "+- Measurement ---" in shown
    assert "the Frechet and the kernel" in " ".join(shown.split())
    assert {len(line) for line in shown.splitlines() if line.startswith(("|", "+"))} == {80}


def test_wherever_features_can_be_a_file_help_says_that_it_runs_code() -> None:
    seen = []
    for name in BUILT.list_commands(typer.Context(BUILT)):
        text = " ".join(run(name, "--help").out.split())
        if "torchscript:" in text:
            seen.append(name)
            assert "A FILE is TorchScript, which runs code: name only files that you trust." in text, name
    assert {"fid", "compare", "neighbors", "reference"} <= set(seen)


@pytest.mark.parametrize(
    ("typed", "command"),
    [
        ("digits --inpaint a.png --mask m.png", "digits --inpaint a.png --mask m.png"),
        ("--noise=0.1 --measure 'my file.npz' digits", "--noise=0.1 --measure 'my file.npz' digits"),
        (
            "digits sampler=ode --operator x --between 1 2 --n 3 --steps=4 --input f",
            "digits sampler=ode --operator x --n 3 --input f",
        ),
    ],
)
def test_sample_says_where_the_tasks_are(typed: str, command: str, here: Path) -> None:
    refused = run("sample", *shlex.split(typed))
    message, hint = refused.err.splitlines()
    task = next(word.partition("=")[0] for word in typed.split() if word.startswith(("--inp", "--noise", "--operator")))
    assert message == f"error: {task} is an option of `ncsnx restore`, not of `ncsnx sample`."
    assert hint == f"  type:  ncsnx restore {command}"
    assert (refused.code, refused.out) == (2, "")
    assert list(here.iterdir()) == []
