"""The running command line, with other values, for a person to type."""

import shlex
from collections.abc import Iterable

import typer


def typed_again(context: typer.Context, **changes: object) -> str:
    """The command line, with other values for some parameters; None leaves an option out.

    Options that weren't typed, and aren't among the changes, stay at their defaults.
    """
    arguments, options = [], []
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        was_typed = source is not None and source.name == "COMMANDLINE"
        value = changes[name] if name in changes else context.params.get(name) if was_typed else None
        if value is None or value is False:
            continue
        if isinstance(value, tuple) and parameter.nargs == 1 and not getattr(parameter, "multiple", False):
            value = ",".join(map(str, value))  # a size
        values = list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]
        if parameter.param_type_name == "argument":
            arguments += values
        else:
            options += [parameter.opts[0], *([] if value is True else values)]
    path = context.command_path.removeprefix(context.find_root().command_path).split()
    return shlex.join(["ncsnx", *path, *map(str, arguments), *map(str, options)])
