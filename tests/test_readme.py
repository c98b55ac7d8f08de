"""Statements of the README are true. Its code blocks run with those of the site (tests/docs/)."""

import re
from pathlib import Path

from ncsnx.commands.command import built_in_commands

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_it_is_read_in_a_few_minutes() -> None:
    assert len(README.encode()) <= 10_000


def test_the_experiment_shown_is_the_one_that_is_trained() -> None:
    assert (ROOT / "experiments" / "bedroom128.py").read_text() in README


def test_the_command_that_runs_the_tests_is_the_one_that_ci_runs() -> None:
    command = (ROOT / ".ci" / "run").read_text().strip().splitlines()[-1]

    assert command.endswith("/nox")
    assert f"\n{command}\n" in README


def test_its_section_on_commands_names_every_command() -> None:
    section = README.split("## Commands")[1].split("## Questions")[0]
    named = {words.removeprefix("ncsnx ").split()[0] for words in re.findall("`([^`]+)`", section)}

    assert {one.name.partition(" ")[0] for one in built_in_commands()} <= named


def test_pictures_and_files_that_it_names_exist() -> None:
    names = [part.split(")")[0].partition("#")[0] for part in README.split("](")[1:] if not part.startswith("http")]

    assert "docs/images/samples.png" in names
    assert [name for name in names if not (ROOT / name).is_file()] == []
