"""Help texts, of every command that the application has."""

import re
from typing import Any

import pytest
import typer

from ncsnx.cli import app
from tests.cli.command import run

BUILT: Any = typer.main.get_command(app)


def commands(command: Any, context: typer.Context) -> dict[str, Any]:
    """The words that name each command and each group → what Typer built."""
    found = {context.command_path: command}
    for name in command.list_commands(context) if hasattr(command, "commands") else ():
        one = command.get_command(context, name)
        found |= commands(one, one.context_class(one, parent=context, info_name=name))
    return found


COMMANDS = commands(BUILT, BUILT.context_class(BUILT, info_name="ncsnx"))


@pytest.mark.parametrize("words", COMMANDS)
def test_help_fits_80_columns_and_explains_every_parameter(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = run(*words.split()[1:], "--help").done()
    assert max(map(len, shown.out.splitlines())) <= 80
    parameters = [one for one in COMMANDS[words].params if not one.hidden]
    assert all(re.match(r"[A-Za-z0-9.]", one.help) and one.help.endswith((".", ")")) for one in parameters)
    if words != "ncsnx":
        assert all(one.rich_help_panel for one in parameters if one.param_type_name == "option")
        summary = COMMANDS[words].help.partition("\n\n")[0]
        assert re.fullmatch(r"[A-Z].*[^.]\.", summary)
        assert len(summary) <= 64
    text = " ".join(shown.out.replace("│", " ").split())
    if "torchscript:" in text:
        assert "A FILE is TorchScript, which runs code: name only files that you trust." in text
    else:
        assert words.removeprefix("ncsnx ") not in {"fid", "compare", "neighbors", "reference"}
