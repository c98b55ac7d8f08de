"""A command as Typer calls it: its parameters as arguments and options, its session, and its result."""

import inspect
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import attrs
import typer

from ncsnx.cli.completion import completion_of
from ncsnx.cli.session import Shared, session
from ncsnx.commands import values
from ncsnx.commands.command import Command, Panel, Parameter, Parse, option, parameters_of

if TYPE_CHECKING:
    from ncsnx.console.messages import Messages
    from ncsnx.results import Result


@attrs.frozen
class _Gpus:
    """The parameter of commands that several devices can share."""

    gpus: Annotated[int | None, option(Panel.EXECUTION, "N", default="one device", is_common=True)] = None
    """GPUs of this machine that share the work, a process for each. For several machines use torchrun."""


@attrs.frozen
class _Terminal:
    """Parameters that commands have on the command line alone."""

    json: Annotated[bool, option(Panel.OUTPUT)] = False
    """Print JSON on standard output."""
    verbose: Annotated[bool, option(Panel.OUTPUT, None, "--verbose", "-v", is_common=True)] = False
    """Print details, and tracebacks of errors."""
    quiet: Annotated[bool, option(Panel.OUTPUT, None, "--quiet", "-q", is_common=True)] = False
    """Print errors only."""


def typed_command(kind: type[Command[Any]]) -> Callable[..., None]:
    """The function of a command, as Typer builds and calls it; its `common` are parameters that the help leaves out."""
    registered, parameters = kind.registered, typed_parameters(kind)
    names = {one.name: one.options[0].partition("/")[0] for one in parameters if one.options}

    def called(**typed: Any) -> None:
        verbose, quiet, json = typed.pop("verbose"), typed.pop("quiet"), typed.pop("json")
        shared = None
        if registered.is_shared:
            shared = Shared(gpus=typed.pop("gpus"), device=typed.get("device", "auto"))
        given = {name: value for name, value in typed.items() if value is not None}
        with session(registered.then, verbose=verbose, quiet=quiet, shared=shared, names=names) as messages:
            from ncsnx.console.working import work_of
            from ncsnx.stopping import StopRequest, stopped_by

            with StopRequest() as stop:
                try:
                    with stopped_by(stop.check):
                        result = kind(**given).carry_out(work_of(messages, stop))
                except Exception:
                    stop.check()  # a signal that arrived before it counts
                    raise
            show(messages, result, json=json)

    called.common = {one.name for one in parameters if one.declaration.is_common}  # type: ignore[attr-defined]
    called.__doc__ = _help(kind.__doc__ or "", names)
    called.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [_parameter(one, names) for one in parameters]
    )
    called.__annotations__ = {one.name: one.annotation for one in called.__signature__.parameters.values()}  # type: ignore[attr-defined]
    return called


def typed_parameters(kind: type[Command[Any]]) -> list[Parameter]:
    """The parameters of a command on the command line."""
    shared = parameters_of(_Gpus) if kind.registered.is_shared else []
    return [*parameters_of(kind), *shared, *parameters_of(_Terminal)]


def show(messages: "Messages", result: "Result", *, json: bool) -> None:
    """Writes a result to standard output, and says what follows. Raises NcsnxError if a part of it is missing."""
    from ncsnx.console.tables import table
    from ncsnx.results import Table

    if json:
        messages.json(result.to_json())
    else:
        for part in result.shown():
            if isinstance(part, Table):
                table(messages, part.columns, part.rows)
            else:
                messages.data(part)
    for line in result.closing():
        messages.info(line)
    if (problem := result.problem()) is not None:
        raise problem


def _parameter(one: Parameter, names: dict[str, str]) -> inspect.Parameter:
    """The parameter of a function that Typer reads."""
    declared, default = one.declaration, one.default
    parse = declared.parse or (values.whole if one.type in (int, int | None) else None)
    settings: dict[str, Any] = {
        "metavar": declared.metavar,
        "help": _help(one.text, names),
        "parser": None if parse is None else _parser(parse),
        "autocompletion": completion_of(declared),
        "show_default": declared.default or not (default in (None, "", ()) or isinstance(default, bool)),
        "rich_help_panel": declared.panel,
    }
    info: Any = typer.Argument(**settings) if declared.is_argument else typer.Option(*one.options, **settings)
    kind: Any = one.type if parse is None else str
    if declared.is_list:
        kind, default = list[str], ... if default is ... else None
    return inspect.Parameter(
        one.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if default is ... else default,
        annotation=Annotated[kind if default is ... else kind | None, info],
    )


def _parser(parse: Parse) -> Callable[[object], object]:
    """The function as Typer takes it: a UsageError becomes its BadParameter."""

    def parsed(text: object) -> object:
        from ncsnx.errors import UsageError

        try:
            return parse(text) if isinstance(text, str) else text  # a default may be converted already
        except UsageError as error:
            raise typer.BadParameter(str(error)) from error

    return parsed


def _help(text: str, names: dict[str, str]) -> str:
    """A text with each paragraph on one line, as Typer keeps line breaks, and parameters in it as options.

    Brackets that rich would take for markup are escaped.
    """
    joined = "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(text).split("\n\n"))
    spelled = re.sub(r"`(\w+)`", lambda found: names.get(found[1], found[0]), joined)
    return re.sub(r"(\[[a-z#/@][^\[]*?\])", r"\\\1", spelled)
