"""A run that isn't there, for every command that takes one: how to get it."""

import shutil
from pathlib import Path

import pytest

from ncsnx.commands.command import built_in_commands, parameters_of
from ncsnx.config.discovery import built_in_folder
from tests.cli.command import run
from tests.config.examples import write_file


def commands_that_take_a_run() -> list[str]:
    """The commands whose first argument is a RUN."""
    return [one.name for one in built_in_commands() if parameters_of(one.kind)[0].declaration.metavar == "RUN"]


COMMANDS = commands_that_take_a_run()


def test_the_commands_that_take_a_run_are_found() -> None:
    assert set(COMMANDS) >= {"sample", "fid", "loss", "likelihood", "compare", "neighbors", "export", "doctor"}


@pytest.mark.parametrize("command", COMMANDS)
def test_where_an_experiment_has_the_name_it_is_told_how_to_get_a_run(command: str, here: Path) -> None:
    more = ["--out", "out"] if command == "export" else []
    outcome = run(command, "bedroom128", *more)
    assert outcome.code == 2
    assert outcome.err.splitlines() == [
        "error: there is no run 'bedroom128' in runs, but there is an experiment of that name.",
        "  train it:                          ncsnx train bedroom128",
        "  or import a published checkpoint:  ncsnx import FILE.pth bedroom128",
    ]
    assert not (here / "runs").exists()


def test_a_copy_of_a_built_in_experiment_takes_the_published_checkpoint_too_until_it_is_changed(here: Path) -> None:
    copy = Path(shutil.copytree(built_in_folder(), here / "experiments")) / "bedroom128.py"
    importing = "or import a published checkpoint:  ncsnx import FILE.pth bedroom128"
    assert importing in run("sample", "bedroom128").err
    text = copy.read_text()
    copy.write_text(text.replace("width=128", "width=64"))
    assert copy.read_text() != text
    changed = run("sample", "bedroom128").err
    assert "ncsnx train bedroom128" in changed
    assert importing not in changed


def test_only_what_was_published_can_be_imported_and_the_folder_of_the_runs_is_typed_again(here: Path) -> None:
    write_file(here / "experiments" / "own.py")
    for name in ("digits", "own"):
        outcome = run("sample", name, "--runs", "my runs")
        assert outcome.err.splitlines() == [
            f"error: there is no run '{name}' in my runs, but there is an experiment of that name.",
            f"  train it:  ncsnx train {name} --runs 'my runs'",
        ]


def test_a_file_that_is_named_as_a_run_is_never_executed(here: Path) -> None:
    (here / "trap.py").write_text("raise SystemExit(7)\n")
    outcome = run("sample", "trap.py")
    assert outcome.code == 2
    assert "is not a run" in outcome.err
    for command, path in (("sample", "./trap.py"), ("doctor", "/dev/null")):
        outcome = run(command, path)
        assert (outcome.code, outcome.out) == (2, "")
    assert "there is no run 'other.py' in runs, which holds none yet" in run("sample", "other.py").err
