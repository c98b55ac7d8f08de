"""The options that commands have in common: a line in each command's help, and `ncsnx help options`."""

from typing import Any

import attrs
import typer

from ncsnx.cli.running import typed_command, typed_parameters
from ncsnx.commands.command import RUNS_PANEL, Command, Registration
from ncsnx.commands.groups import BatchSize, Execution, InCache, InData, InRuns, Noted


@attrs.frozen(slots=False, kw_only=True, eq=False)
class CommonOptions(InRuns, InData, InCache, Execution, BatchSize, Noted, Command[Any]):
    """Options that commands have in common; each takes those that concern it.

    Batches of `ncsnx loss` have 128 images by default, those of `ncsnx likelihood` 64.
    """


CommonOptions.registered = Registration("options", panel=RUNS_PANEL, place=0, then="", is_shared=True)


def common_options(kind: type[Command[Any]]) -> str | None:
    """The line about these options in the help of a command; None for a command without any."""
    names = [one.options[-1] for one in typed_parameters(kind) if one.declaration.is_common]
    return f"Also {', '.join(names)}: see `ncsnx help options`." if names else None


def print_common_options(cls: type[Any]) -> None:
    """Prints the options that commands have in common, with their meaning. cls: class of the command."""
    app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})
    app.command("options", cls=cls)(typed_command(CommonOptions))
    built: Any = typer.main.get_command(app)
    context = built.context_class(built, info_name="ncsnx COMMAND")
    typer.echo(built.get_help(context), nl=False)
