"""The `ncsnx` application; its group has the commands of ncsnx and those of installed packages."""

from typing import Annotated

import typer

import ncsnx
from ncsnx.cli.command_group import Commands

app = typer.Typer(
    name="ncsnx",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,  # `ncsnx completion` takes its place: importing typer alone takes longer than an answer may
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    help="Train, sample and evaluate noise-conditional score networks (NCSN, NCSNv2). Experiments are typed Python "
    "files.\n\nTo begin: `ncsnx list`, `ncsnx train digits`, `ncsnx sample digits`. Help on a command: `ncsnx COMMAND "
    "--help`. Completion for your shell: `ncsnx completion --help`.",
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
