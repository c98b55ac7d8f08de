"""The `ncsnx` application; its group has the commands of ncsnx and those of installed packages."""

import inspect
from functools import partial
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

import ncsnx
from ncsnx.cli.command_registry import (
    LAST,
    Command,
    built_in_command,
    built_in_commands,
    plugin_commands,
    registered_command,
)

_HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}


class _Parameters:
    """Leaves parameters that were not given unconverted, since Typer's conversion imports pydantic."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, with --help."""
        parameters: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for parameter in parameters:
            parameter.process_value = partial(_converted, parameter)
        return parameters


class NcsnxCommand(_Parameters, TyperCommand):
    """A command. With `FIELD=?` among its arguments it says what the field accepts."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command, or answers `FIELD=?`."""
        arguments = [ctx.params.get(one.name) for one in self.params if one.param_type_name == "argument"]
        words = [word for value in arguments for word in (value if isinstance(value, list) else [value])]
        if any(isinstance(word, str) and word.endswith("=?") for word in words):
            from ncsnx.cli.session import FROM_THE_START, session
            from ncsnx.config.field_facts import answer, asked_path

            if paths := [path for word in words if (path := asked_path(word)) is not None]:
                with session(FROM_THE_START) as messages:
                    for path in paths:
                        messages.data("\n".join(answer(path)))
                return None
        return super().invoke(ctx)


class _Subcommands(_Parameters, TyperGroup):
    """A group of commands within a command."""


class _Commands(_Parameters, TyperGroup):
    """All commands. One is imported and built when its name is typed, all are for the help and for an unknown name."""

    _has_all = False

    def invoke(self, ctx: Any) -> Any:
        """Runs the command that was typed. A bad value is one line."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            if type(error) is not typer.BadParameter:
                raise  # a missing parameter, which Typer shows with the usage
            from ncsnx.console.messages import Messages

            name = "" if error.param is None else error.param.opts[0]
            if error.param is not None and not name.startswith("-"):
                name = error.param.metavar or name
            text = error.message.removeprefix("Value error, ").replace("Input should be", "must be")
            Messages().error(f"{name}: {text.partition(', unable to parse')[0].removesuffix('.')}")
            raise typer.Exit(2) from None

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
        plugins, errors = plugin_commands()
        for one in (*built_in_commands(), *plugins):
            self._add(one)
        if errors:
            from ncsnx.console.messages import Messages

            messages = Messages()
            for line in errors:
                messages.warning(line)


def _place(name: str) -> int:
    one = registered_command(name)
    return LAST if one is None else one.place


def _built(one: Command) -> Any:
    """The command as Typer builds it, by way of an application of its own."""
    app_of_one = typer.Typer(add_completion=False, context_settings=_HELP_OPTIONS)
    if isinstance(one.function, typer.Typer):
        for inner in one.function.registered_commands:
            inner.cls = NcsnxCommand
            inner.help = _help(inner.callback)
        app_of_one.add_typer(one.function, name=one.name, cls=_Subcommands, rich_help_panel=one.panel)
        built: Any = typer.main.get_command(app_of_one)
        return built.commands[one.name]
    app_of_one.command(one.name, cls=NcsnxCommand, rich_help_panel=one.panel, help=_help(one.function))(one.function)
    return typer.main.get_command(app_of_one)


def _help(function: Any) -> str:
    """The docstring with its paragraphs in one line each, as Typer keeps line breaks."""
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(function.__doc__ or "").split("\n\n"))


def _converted(parameter: Any, ctx: Any, value: Any) -> Any:
    """A parameter's value, converted by Typer if one was given."""
    is_list = parameter.multiple and parameter.default is not None
    if value not in (None, ()) or parameter.required or is_list or parameter.nargs != 1:
        return type(parameter).process_value(parameter, ctx, value)
    return None if parameter.callback is None else parameter.callback(ctx, parameter, None)


app = typer.Typer(
    name="ncsnx",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=_HELP_OPTIONS,
    help="Train, sample and evaluate noise-conditional score networks (NCSN, NCSNv2). Experiments are typed Python "
    "files.\n\nTo begin: `ncsnx list`, `ncsnx train digits`, `ncsnx sample digits`. Help on a command: `ncsnx COMMAND "
    "--help`.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ncsnx {ncsnx.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None: ...
