"""The registry of commands: each file of cli/commands/ adds its own, and installed packages add theirs.

    @command("hello")
    def hello_command(name: str, quiet: options.Quiet = False) -> None: ...

A package names the module that holds its command by an entry point of the group `ncsnx.commands`. Such a module is
imported when a command is typed that ncsnx doesn't have, and for the help.
"""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from keyword import iskeyword
from pkgutil import iter_modules
from typing import Any, TypeVar

import attrs
import typer

from ncsnx.cli import commands
from ncsnx.registering import entry_points_of, import_modules_of

TRAIN_PANEL = "Train and sample"
EVALUATE_PANEL = "Evaluate"
DATA_PANEL = "Data"
RUNS_PANEL = "Experiments, runs and models"
PACKAGES_PANEL = "Installed packages"
"""Panels of `ncsnx --help`."""
LAST = 1_000
"""The place of commands that don't name one: after the commands of ncsnx."""
PLUGINS = "ncsnx.commands"
"""The group of entry points."""
T = TypeVar("T", bound=Callable[..., Any])


@attrs.frozen
class Command:
    """A command, or a group of commands."""

    name: str
    function: Callable[..., Any]
    """The command's function, or the Typer application of a group."""
    panel: str
    """The panel of `ncsnx --help` that lists the command."""
    place: int
    """Orders the help, ascending; a panel stands where its first command does."""


_commands: dict[str, Command] = {}


def command(
    name: str,
    *,
    panel: str = PACKAGES_PANEL,
    place: int = LAST,
) -> Callable[[T], T]:
    """Registers a function as the command `name`: its parameters are the options, its docstring is the help.

    The docstring's first line stands in `ncsnx --help`. panel, place: as in `Command`. Raises ValueError for a
    name that is taken.
    """

    def register_command(function: T) -> T:
        _register(Command(name, function, panel, place))
        return function

    return register_command


def group(name: str, app: typer.Typer, *, panel: str = PACKAGES_PANEL, place: int = LAST) -> None:
    """Registers a group of commands. Raises ValueError for a name that is taken."""
    _register(Command(name, app, panel, place))


def registered_command(name: str) -> Command | None:
    """The command of this name, None where none is registered."""
    return _commands.get(name)


@cache
def built_in_commands() -> tuple[Command, ...]:
    """The commands of ncsnx, in the order of the help."""
    import_modules_of(commands.__name__)
    return tuple(sorted(_commands.values(), key=lambda one: (one.place, one.name)))


def built_in_command(name: str) -> Command | None:
    """The command of ncsnx of this name, None where there is none. Imports no other command's file."""
    file = f"{name}_" if iskeyword(name) else name
    if file not in {module.name for module in iter_modules(commands.__path__)}:
        return None
    import_module(f"{commands.__name__}.{file}")
    return _commands.get(name)  # none for `import_`, which is the name of a file alone


def plugin_commands() -> tuple[list[Command], list[str]]:
    """The commands of installed packages, and a line for each package whose module can't be imported."""
    if not entry_points_of(PLUGINS):
        return [], []
    from ncsnx.config.variants import plugin_errors

    built_in = built_in_commands()
    errors = plugin_errors(PLUGINS)
    found = [one for one in _commands.values() if one not in built_in]
    return sorted(found, key=lambda one: (one.place, one.name)), errors


def _register(one: Command) -> None:
    if _commands.setdefault(one.name, one) != one:
        raise ValueError(f"the command {one.name!r} already exists")
