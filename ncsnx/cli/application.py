"""The `ncsnx` application; its group has the commands of ncsnx and those of installed packages.

The options that commands have in common are a line in each command's help, and `ncsnx help options`.
"""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

import attrs
import typer
from typer.core import TyperCommand, TyperGroup

import ncsnx
from ncsnx.cli.running import typed_command, typed_parameters
from ncsnx.commands.command import (
    GROUPS,
    Command,
    Panel,
    Registration,
    built_in_command,
    built_in_commands,
    plugin_commands,
)
from ncsnx.commands.groups import BatchSize, Execution, InCache, InData, InRuns, Noted

_HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}
_INSTEAD = {
    "-n": "--n",
    "--epochs": "steps=N",
    "--lr": "optimizer.lr=VALUE",
    "--resume": "none: the same command resumes",
}
"""Answers to options of other programs: what to type."""


class _Parameters:
    """Leaves parameters that were not given unconverted, since Typer's conversion imports pydantic, and shows no types
    but those of options with a value."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, with --help."""
        parameters: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for parameter in parameters:
            parameter.process_value = partial(_converted, parameter)
            if parameter.param_type_name == "argument" or parameter.is_flag:
                parameter.display_type_rich = lambda ctx: None
        return parameters


class _Command(_Parameters, TyperCommand):
    """A command, with all of its options in its help."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Reads the arguments. The error of an unknown option says what to type."""
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            if (instead := _INSTEAD.get(getattr(error, "option_name", ""))) is not None:
                error.possibilities = [instead]  # type: ignore[attr-defined]
            raise


class NcsnxCommand(_Command):
    """A command of the application. With `FIELD=?` among its arguments it says what the field accepts."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Writes the help, without the options that commands have in common."""
        common = getattr(self.callback, "common", ())
        parameters: list[Any] = [one for one in self.params if one.name in common]
        for parameter in parameters:
            parameter.hidden = True
        super().format_help(ctx, formatter)
        for parameter in parameters:
            parameter.hidden = False  # the shell completes them

    def invoke(self, ctx: Any) -> Any:
        """Runs the command, or answers `FIELD=?`."""
        arguments = [ctx.params.get(one.name) for one in self.params if one.param_type_name == "argument"]
        words = [word for value in arguments for word in (value if isinstance(value, list) else [value])]
        if any(isinstance(word, str) and word.endswith("=?") for word in words):
            from ncsnx.cli.session import session
            from ncsnx.commands.command import FROM_THE_START
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
        if cmd_name not in self.commands:
            self._add(built_in_command(cmd_name))
        if cmd_name not in self.commands:
            self._add_all()
        return super().get_command(ctx, cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command and what was typed after its name."""
        if args[0] == "resume" and self.get_command(ctx, "resume") is None:
            ctx.fail("No such command 'resume'. `ncsnx train RUN` resumes.")
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: Any) -> list[str]:
        """All names, in the order of the help."""
        self._add_all()
        return list(self.commands)

    def _add(self, registered: Sequence[Registration]) -> None:
        for word in dict.fromkeys(one.name.partition(" ")[0] for one in registered):
            if word not in self.commands:
                inner = [one for one in registered if one.name.partition(" ")[0] == word]
                self.add_command(_built(word, inner), word)

    def _add_all(self) -> None:
        if self._has_all:
            return
        self._has_all = True
        plugins, errors = plugin_commands()
        others = {"help": self.commands["help"]}
        self.commands.clear()  # for the order of the help
        self._add(built_in_commands())
        self.commands.update(others)
        self._add(plugins)
        if errors:
            from ncsnx.console.messages import Messages

            messages = Messages()
            for line in errors:
                messages.warning(line)


def _built(word: str, registered: Sequence[Registration]) -> Any:
    """A command, or a group of commands, as Typer builds it by way of an application of its own."""
    app_of_one = typer.Typer(add_completion=False, context_settings=_HELP_OPTIONS)
    panel = registered[0].panel
    if registered[0].name == word:
        kind = registered[0].kind
        epilog = common_options(kind)
        app_of_one.command(word, cls=NcsnxCommand, rich_help_panel=panel, epilog=epilog)(typed_command(kind))
        return typer.main.get_command(app_of_one)
    group = typer.Typer(no_args_is_help=True, help=GROUPS.get(word))
    for one in registered:
        name, epilog = one.name.removeprefix(f"{word} "), common_options(one.kind)
        group.command(name, cls=NcsnxCommand, epilog=epilog)(typed_command(one.kind))
    app_of_one.add_typer(group, name=word, cls=_Subcommands, rich_help_panel=panel)
    built: Any = typer.main.get_command(app_of_one)
    return built.commands[word]


@attrs.frozen(slots=False, kw_only=True, eq=False)
class CommonOptions(InRuns, InData, InCache, Execution, BatchSize, Noted, Command[Any]):
    """Options that commands have in common; each takes those that concern it.

    Batches of `ncsnx loss` have 128 images by default, those of `ncsnx likelihood` 64.
    """


CommonOptions.registered = Registration("options", panel=Panel.RUNS, order=0, then="", is_shared=True)


def common_options(kind: type[Command[Any]]) -> str | None:
    """The line about these options in the help of a command; None for a command without any."""
    names = [one.options[-1] for one in typed_parameters(kind) if one.declaration.is_common]
    return f"Also {', '.join(names)}: see `ncsnx help options`." if names else None


def print_common_options(cls: type[Any]) -> None:
    """Prints the options that commands have in common, with their meaning. cls: class of the command."""
    app = typer.Typer(add_completion=False, context_settings=_HELP_OPTIONS)
    app.command("options", cls=cls)(typed_command(CommonOptions))
    built: Any = typer.main.get_command(app)
    context = built.context_class(built, info_name="ncsnx COMMAND")
    typer.echo(built.get_help(context), nl=False)


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
    "files.\n\nA photograph of yours: `ncsnx restore photographs --denoise photo.jpg --save better.jpg`. A training "
    "that takes minutes: `ncsnx train digits`, `ncsnx sample digits`. What there is: `ncsnx list`. Help on a command: "
    "`ncsnx COMMAND --help`.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ncsnx {ncsnx.__version__}")
        raise typer.Exit


@app.command("help", rich_help_panel=Panel.RUNS)
def _help(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[COMMAND|options]", help="A command, or options for those that commands share."),
    ] = None,
) -> None:
    """Explain a command, or the options that commands share."""
    if words == ["options"]:
        print_common_options(_Command)
    else:
        app([*(words or []), "--help"])


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None: ...
