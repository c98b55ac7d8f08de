"""The files of the folder of commands, commands of installed packages, and what a command's fields declare."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ncsnx.commands.command import as_function, built_in_command, built_in_commands, command
from ncsnx.commands.loss import Loss
from tests.cli.command import run_process
from tests.cli.test_plugins import install
from tests.forked import REPOSITORY


def test_each_file_of_the_folder_is_a_command() -> None:
    files = {path.stem.strip("_") for path in (REPOSITORY / "ncsnx/commands").glob("*.py")} - {"init"}
    shared = {"command", "given_data", "groups", "tasks", "training_options", "values"}
    of_python_alone = {"draw"}
    assert {one.name.partition(" ")[0] for one in built_in_commands()} == files - shared - of_python_alone
    assert built_in_command("import_") == built_in_command("groups") == []


def test_a_name_that_is_taken_is_refused() -> None:
    with pytest.raises(ValueError, match="the command 'fid' already exists"):
        command("fid")(Loss)
    assert Loss.registered.name == "loss"


def test_a_command_is_a_function_of_its_fields_in_python() -> None:
    loss = as_function(Loss)
    parameters = inspect.signature(loss).parameters
    assert (next(iter(parameters)), parameters["passes"].annotation) == ("run", int | None)
    assert "note: A remark to keep with the result." in str(loss.__doc__)
    with pytest.raises(TypeError, match=r"^ncsnx.loss: got an unexpected keyword argument 'least'"):
        loss("digits", least=1)  # type: ignore[call-arg]


def test_the_command_of_a_package_works(toy: Path, here: Path, trained: Path) -> None:
    shown = run_process(here, "steps", str(trained / "runs/digits"), python_path=(toy,))
    assert (shown.code, shown.out, shown.err) == (0, "4\n8\n12\n", "")


def test_help_has_the_commands_of_packages_which_no_command_of_ncsnx_imports(toy: Path, here: Path) -> None:
    install(
        here / "site", "broken", "[ncsnx.commands]\nbad = bad_command\n", {"bad_command.py": "raise OSError('no')\n"}
    )
    shown = run_process(here, "--help", python_path=(here / "site", toy)).done()
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
