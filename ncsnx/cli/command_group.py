"""The group of all commands: finds them, checks what was typed, and imports packages only when they are needed."""

from collections.abc import Callable
from typing import Any

import typer

from ncsnx.cli.bad_values import BadValue
from ncsnx.cli.command_registry import (
    LAST,
    Command,
    built_in_command,
    built_in_commands,
    plugin_commands,
    registered_command,
)
from ncsnx.cli.help_pages import HelpGroup
from ncsnx.cli.retyping import remember

_WORDS = {
    "Input should be a valid integer": "expected a whole number",
    "Input should be a valid number": "expected a number",
}
"""Beginning of a message of Typer → what is said instead."""


class Commands(HelpGroup):
    """All commands. A bad value is shown in one line; a missing or an unknown parameter shows the usage.

    A command is imported and built when its name is typed, all are for the help and for an unknown name.
    """

    _has_all = False

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
            raise BadValue(_in_words(error.message), error.ctx, error.param) from None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The name, the command and the words after it, which the command may refuse."""
        name, found, words = super().resolve_command(ctx, args)
        one = registered_command(name or "")
        if one is not None and one.check_words is not None:
            _check(one.check_words, words)
        return name, found, words

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of this name. Other packages are asked only for a name that ncsnx doesn't have."""
        if cmd_name not in self.commands and (one := built_in_command(cmd_name)) is not None:
            self._add(one)
        if cmd_name not in self.commands:
            self._add_all()
        return super().get_command(ctx, cmd_name)

    def list_commands(self, ctx: Any) -> list[str]:
        """All names, in the order of the help."""
        self._add_all()
        return sorted(super().list_commands(ctx), key=_place)

    def _add(self, one: Command) -> None:
        if one.name not in self.commands:
            self.add_command(_built(one), one.name)

    def _add_all(self) -> None:
        if self._has_all:
            return
        self._has_all = True
        found, errors = plugin_commands()
        for one in (*built_in_commands(), *found):
            self._add(one)
        if errors:
            from ncsnx.console.messages import Messages

            messages = Messages()
            for line in errors:
                messages.warning(line)


def _place(name: str) -> int:
    one = registered_command(name)
    return LAST if one is None else one.place


def _in_words(message: str) -> str:
    """Typer's message about a value, without the words of the library that parsed it."""
    for begin, words in _WORDS.items():
        if message.startswith(begin):
            return words
    return message.removeprefix("Value error, ").removesuffix(".")


def _check(check_words: Callable[[list[str]], None], words: list[str]) -> None:
    from ncsnx.cli.session import error_in_lines
    from ncsnx.errors import UsageError

    try:
        check_words(words)
    except UsageError as error:
        raise BadValue(error_in_lines(error)) from error


def _built(one: Command) -> Any:
    """The command as typer builds it, by way of an application of its own."""
    app = typer.Typer(
        rich_markup_mode=None, add_completion=False, context_settings={"help_option_names": ["-h", "--help"]}
    )
    one.add_to(app)
    built: Any = typer.main.get_command(app)
    return built.commands[one.name] if isinstance(one.function, typer.Typer) else built
