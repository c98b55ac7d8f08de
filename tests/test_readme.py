"""Statements of the README are true."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_experiment_shown_is_the_one_that_is_trained() -> None:
    assert (ROOT / "experiments" / "bedroom128.py").read_text() in README


def test_the_command_that_runs_the_tests_is_the_one_that_ci_runs() -> None:
    command = (ROOT / ".ci" / "run").read_text().strip().splitlines()[-1]

    assert command.endswith("/nox")
    assert f"    {command}\n" in README


def test_every_command_of_the_table_exists() -> None:
    commands = [line.split("`ncsnx ")[1].split()[0].rstrip("`") for line in README.splitlines() if "| `ncsnx " in line]
    shown = subprocess.run(
        [sys.executable, "-m", "ncsnx", "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    listed = [line.split()[0] for line in shown.partition("Commands:")[2].splitlines() if line.strip()]

    assert [name for name in listed if name.isalpha() and name.islower()][: len(commands)] == commands
    assert len(commands) == 17


def test_pictures_and_files_that_it_names_exist() -> None:
    pictures = [part.split(")")[0] for part in README.split("](docs/")[1:]]

    assert pictures
    assert all((ROOT / "docs" / picture).is_file() for picture in pictures)
