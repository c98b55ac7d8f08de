"""Commands by name, and what their functions need."""

import inspect

import pytest
import typer

from ncsnx.cli.command_registry import built_in_command, built_in_commands
from ncsnx.cli.options import EXECUTION
from tests.cli.command import run


@pytest.mark.parametrize("name", ["import_", "train_", "__init__", "nothing"])
def test_a_name_that_is_no_command_is_none(name: str) -> None:
    assert built_in_command(name) is None
    result = run(name, "digits")
    assert result.code == 2
    assert f"No such command '{name}'" in result.err


def test_commands_that_choose_a_runtime_for_weights_have_all_its_options() -> None:
    checked = []
    for one in built_in_commands():
        is_group = isinstance(one.function, typer.Typer)
        functions = [found.callback for found in one.function.registered_commands] if is_group else [one.function]
        for function in functions:
            assert function is not None
            if "weights_runtime(" in inspect.getsource(inspect.getmodule(function)):  # type: ignore[arg-type]
                checked.append(one.name)
                assert set(EXECUTION) - set(inspect.signature(function).parameters) == set(), one.name
    assert {"sample", "fid", "export"} <= set(checked)
