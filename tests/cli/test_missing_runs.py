"""A run that isn't there, for every command that takes one: how to get it."""

from pathlib import Path

import pytest

from ncsnx.commands.command import built_in_commands, parameters_of
from tests.cli.command import run


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
        "error: there is no run 'bedroom128' in runs, which holds none yet.",
        "  train an experiment:  ncsnx train bedroom128",
    ]
    assert not (here / "runs").exists()


def test_a_file_that_is_named_as_a_run_is_never_executed(here: Path) -> None:
    (here / "trap.py").write_text("raise SystemExit(7)\n")
    outcome = run("sample", "trap.py")
    assert outcome.code == 2
    assert "is not a run" in outcome.err
    for command, path in (("sample", "./trap.py"), ("doctor", "/dev/null")):
        outcome = run(command, path)
        assert (outcome.code, outcome.out) == (2, "")
    assert "there is no run 'other.py' in runs, which holds none yet" in run("sample", "other.py").err
