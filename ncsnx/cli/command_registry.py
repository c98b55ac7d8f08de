"""The commands that there are: each file of cli/commands/ adds its own, and installed packages add theirs.

    @command("hello")
    def hello_command(name: str, quiet: options.Quiet = False) -> None: ...

A package names the module that holds it by an entry point of the group `ncsnx.commands`. It is imported when a command
is asked for that ncsnx doesn't have, and for the help.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import attrs
import typer

from ncsnx.registering import import_modules_of

LAST = 1_000
"""The place of commands that don't name one: after those of ncsnx."""
PLUGINS = "ncsnx.commands"
"""The group of entry points."""
T = TypeVar("T", bound=Callable[..., Any])


@attrs.frozen
class Command:
    """A command, or a group of them."""

    place: int
    """In the help, ascending."""
    name: str
    what: Callable[..., Any]
    """The function, or the Typer application of a group."""

    def add_to(self, app: typer.Typer) -> None:
        """Makes it a command of the application."""
        if isinstance(self.what, typer.Typer):
            app.add_typer(self.what, name=self.name)
        else:
            app.command(self.name)(self.what)


_commands: dict[str, Command] = {}


def command(name: str, *, place: int = LAST) -> Callable[[T], T]:
    """Registers a function as the command `name`: its parameters are the options, its docstring is the help.

    Raises ValueError for a name that is taken.
    """

    def register_command(function: T) -> T:
        _register(Command(place, name, function))
        return function

    return register_command


def group(name: str, app: typer.Typer, *, place: int = LAST) -> None:
    """Registers a group of commands. Raises ValueError for a name that is taken."""
    _register(Command(place, name, app))


@cache
def built_in_commands() -> tuple[Command, ...]:
    """Those of ncsnx, in the order of the help."""
    import_modules_of("ncsnx.cli.commands")
    return tuple(sorted(_commands.values(), key=lambda one: (one.place, one.name)))


def plugin_commands() -> tuple[list[Command], list[str]]:
    """Those of installed packages, and a line for each package whose module can't be imported."""
    from ncsnx.config.variants import plugin_errors

    built_in = built_in_commands()
    errors = plugin_errors(PLUGINS)
    return sorted((one for one in _commands.values() if one not in built_in), key=lambda one: one.name), errors


def _register(one: Command) -> None:
    if _commands.setdefault(one.name, one) != one:
        raise ValueError(f"there already is a command {one.name!r}")
