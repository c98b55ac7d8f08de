"""Rules for every command that the application has, and commands of installed packages."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from ncsnx.cli import app
from ncsnx.commands.command import built_in_commands, command
from ncsnx.commands.loss import Loss
from tests.cli.command import REPOSITORY, Outcome, run, run_process
from tests.cli.test_plugins import install


def leaves(found: Any, words: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The words that name each command, groups opened."""
    if hasattr(found, "commands"):
        names = found.list_commands(typer.Context(found))
        return [
            leaf for name in names for leaf in leaves(found.get_command(typer.Context(found), name), (*words, name))
        ]
    return [words]


EVERY = leaves(typer.main.get_command(app))


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_its_help_is_a_sentence_and_its_usage_is_refused_by_name(words: tuple[str, ...], here: Path) -> None:
    shown = run(*words, "--help")
    assert shown.code == 0
    refused = run(*words, "--no-such-option")
    assert (refused.code, refused.out) == (2, "")
    assert "--no-such-option" in refused.err


def test_each_file_of_the_folder_is_a_command() -> None:
    files = {path.stem.strip("_") for path in (REPOSITORY / "ncsnx/commands").glob("*.py")} - {"init"}
    shared = {"command", "groups", "sources", "tasks", "values"}
    of_python_alone = {"draw"}
    assert {one.name.partition(" ")[0] for one in built_in_commands()} == files - shared - of_python_alone


def test_a_name_that_is_taken_is_refused() -> None:
    with pytest.raises(ValueError, match="the command 'fid' already exists"):
        command("fid")(Loss)
    assert Loss.registered.name == "loss"


def ncsnx(here: Path, *words: str, toy: Path) -> Outcome:
    return run_process(here, *words, python_path=(here / "site", toy))


def test_the_command_of_a_package_works_and_is_in_the_help(toy: Path, here: Path, trained: Path) -> None:
    shown = ncsnx(here, "steps", str(trained / "runs/digits"), toy=toy)
    assert (shown.code, shown.out, shown.err) == (0, "4\n8\n12\n", "")
    shown = ncsnx(here, "--help", toy=toy).out
    row = r"│ steps +List the steps of a run's checkpoints, one per line\. +│"
    assert re.search(rf"─ Installed packages ─.*\n{row}", shown)
    missing = ncsnx(here, "steps", "nothing", toy=toy)
    assert missing.code == 2
    assert missing.err.startswith("error: there is no run 'nothing'")
    assert ncsnx(here, "steps", "--help", toy=toy).code == 0


def test_a_broken_package_is_named_and_spoils_nothing(toy: Path, here: Path) -> None:
    install(
        here / "site", "broken", "[ncsnx.commands]\nbad = bad_command\n", {"bad_command.py": "raise OSError('no')\n"}
    )
    shown = ncsnx(here, "--help", toy=toy)
    assert shown.code == 0
    assert "steps " in shown.out
    assert "broken" in shown.err
    assert "Traceback" not in shown.err
    listed = ncsnx(here, "list", toy=toy)
    assert (listed.code, "bad_command" in listed.err) == (0, False)


def test_what_ncsnx_has_imports_no_command_of_a_package(toy: Path, here: Path) -> None:
    listed = "from ncsnx.cli import app; app(['list'], standalone_mode=False)"
    code = f"{listed}; import sys; print('steps_command' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=here,
        env={"PYTHONPATH": f"{REPOSITORY}:{toy}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.splitlines()[-1] == "False"
