"""The files of the folder of commands, commands of installed packages, and what a command's fields declare."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import attrs
import pytest

from ncsnx.commands.command import (
    OUTPUT_PANEL,
    Command,
    argument,
    as_function,
    built_in_command,
    built_in_commands,
    command,
    option,
    parameters_of,
)
from ncsnx.commands.loss import Loss
from ncsnx.errors import UsageError
from ncsnx.results import Result
from ncsnx.work import Work
from tests.cli.command import run_process
from tests.cli.test_plugins import install
from tests.forked import REPOSITORY


def test_each_file_of_the_folder_is_a_command() -> None:
    files = {path.stem.strip("_") for path in (REPOSITORY / "ncsnx/commands").glob("*.py")} - {"init"}
    shared = {"command", "groups", "sources", "tasks", "values"}
    of_python_alone = {"draw"}
    assert {one.name.partition(" ")[0] for one in built_in_commands()} == files - shared - of_python_alone
    assert built_in_command("import_") == built_in_command("groups") == []


def test_a_name_that_is_taken_is_refused() -> None:
    with pytest.raises(ValueError, match="the command 'fid' already exists"):
        command("fid")(Loss)
    assert Loss.registered.name == "loss"


def test_the_command_of_a_package_works(toy: Path, here: Path, trained: Path) -> None:
    shown = run_process(here, "steps", str(trained / "runs/digits"), python_path=(toy,))
    assert (shown.code, shown.out, shown.err) == (0, "4\n8\n12\n", "")


def test_help_has_the_commands_of_packages_which_no_command_of_ncsnx_imports(toy: Path, here: Path) -> None:
    install(
        here / "site", "broken", "[ncsnx.commands]\nbad = bad_command\n", {"bad_command.py": "raise OSError('no')\n"}
    )
    shown = run_process(here, "--help", python_path=(here / "site", toy))
    assert shown.code == 0
    row = r"│ steps +List the steps of a run's checkpoints, one per line\. +│"
    assert re.search(rf"─ Installed packages ─.*\n{row}", shown.out)
    assert "broken" in shown.err
    assert "Traceback" not in shown.err

    code = """
import sys
from ncsnx.cli import app
app(["list"], standalone_mode=False)
assert not {"steps_command", "bad_command"} & set(sys.modules)
"""
    path = os.pathsep.join(map(str, (here / "site", toy, REPOSITORY)))
    listed = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert (listed.returncode, listed.stderr) == (0, "")


@attrs.frozen
class Doubled(Result):
    value: int


@attrs.frozen(slots=False, kw_only=True, eq=False)
class Double(Command[Doubled]):
    """Doubles a number."""

    number: Annotated[int, argument("N")] = attrs.field(kw_only=False)
    """Number to double."""
    most: Annotated[int, option(OUTPUT_PANEL, "M", between=(1, 9))] = 9
    """Largest number."""
    hidden: bool = False
    """A field for Python alone."""

    def carry_out(self, work: Work) -> Doubled:
        return Doubled(2 * min(self.number, self.most))


def test_a_command_is_a_function_of_its_fields_in_python() -> None:
    double: Any = as_function(Double)
    assert double(4).value == 8
    assert double(4, most=3).value == 6
    assert "number: Number to double." in double.__doc__
    assert list(double.__signature__.parameters) == ["number", "most", "hidden", "progress"]
    with pytest.raises(TypeError, match="unexpected keyword argument 'least'"):
        double(4, least=1)
    with pytest.raises(UsageError, match="most must be between 1 and 9, not 10"):
        double(4, most=10)
    typed = {one.name: one.options for one in parameters_of(Double)}
    assert typed == {"number": (), "most": ("--most",)}, "a field without a declaration is Python's alone"
