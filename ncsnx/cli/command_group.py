"""How the commands are found and called: those of installed packages are imported where they are asked for."""

from typing import Any

import typer
from typer.core import TyperGroup

from ncsnx.cli.bad_values import BadValue
from ncsnx.cli.command_registry import Command, plugin_commands
from ncsnx.cli.retyping import remember


class Commands(TyperGroup):
    """Commands whose bad values are shown in one line; what is missing or unknown shows the usage."""

    _has_plugins = False

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        remember(args)
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            if type(error) is not typer.BadParameter:
                raise
            raise BadValue(error.message, error.ctx, error.param) from None

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of this name. What ncsnx has costs no look at other packages."""
        if super().get_command(ctx, cmd_name) is None:
            self._add_plugins()
        return super().get_command(ctx, cmd_name)

    def list_commands(self, ctx: Any) -> list[str]:
        """All names, for the help."""
        self._add_plugins()
        return super().list_commands(ctx)

    def _add_plugins(self) -> None:
        if self._has_plugins:
            return
        self._has_plugins = True
        found, errors = plugin_commands()
        for one in found:
            self.add_command(_made(one), one.name)
        if errors:
            from ncsnx.console.messages import Messages

            messages = Messages()
            for line in errors:
                messages.warning(line)


def _made(one: Command) -> Any:
    """The command as typer makes it in an application of its own."""
    app = typer.Typer(rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]})
    one.add_to(app)
    made: Any = typer.main.get_command(app)
    return made.commands[one.name] if isinstance(one.what, typer.Typer) else made
