"""The running command line, with a change, for a person to type."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar

import typer

_typed: ContextVar[tuple[str, ...]] = ContextVar("typed", default=())
"""Arguments of the running command line."""


def remember(arguments: Sequence[str]) -> None:
    """Keeps the arguments of the command line, as typed, for the functions below."""
    _typed.set(tuple(arguments))


def typed_words(without: Mapping[str, int] | None = None) -> list[str]:
    """The arguments as typed. without: options to leave out, and the number of their values."""
    return _rest(_typed.get(), without or {})


def typed_with(addition: str) -> str:
    """The command line as typed, followed by `addition`: an option, or FIELD=VALUE once or several times.

    Earlier uses of the same option, or of the same fields, are left out.
    """
    words = shlex.split(addition)
    fields = [name for name, is_field, _ in (word.partition("=") for word in words) if is_field]
    is_option = words[0].startswith("-") and len(words) > 1
    kept = _rest(_typed.get(), dict.fromkeys([words[0], *fields] if is_option else fields, 1))
    return f"{shlex.join(['ncsnx', *kept])} {addition}"


def typed_as(command: str, without: Mapping[str, int]) -> str:
    """The command line for another command. without: options to leave out, and the number of their values."""
    return shlex.join(["ncsnx", command, *_rest(_typed.get()[1:], without)])


def typed_instead(option: str, addition: str) -> str:
    """The command line with `addition` in place of an option and its value."""
    return shlex.join(["ncsnx", *_rest(_typed.get(), {option: 1}), addition])


def _rest(typed: Sequence[str], without: Mapping[str, int]) -> list[str]:
    """The words without some fields, and some options with their values, which may be joined to them by '='."""
    kept, words = [], iter(typed)
    for word in words:
        name, joined, _ = word.partition("=")
        if name not in without or not (joined or name.startswith("-")):
            kept.append(word)
        elif not joined:
            for _ in range(without[name]):
                next(words, None)
    return kept


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
