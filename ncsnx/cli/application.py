"""The `ncsnx` application and the order of its commands."""

from typing import Annotated

import typer

import ncsnx
from ncsnx.cli import (
    compare,
    data,
    diff,
    doctor,
    export,
    fid,
    import_,
    likelihood,
    list,
    loss,
    neighbors,
    new,
    plan,
    reference,
    sample,
    show,
    train,
)
from ncsnx.cli.bad_values import Commands

app = typer.Typer(
    name="ncsnx",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    help="Noise-conditional score networks (NCSN, NCSNv2): train, sample and evaluate experiments that are typed "
    "Python files.\n\nBegin with `ncsnx list`, then `ncsnx train digits` and `ncsnx sample digits`.",
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


app.command("list")(list.list_command)
app.command("show")(show.show_command)
app.command("diff")(diff.diff_command)
app.command("train")(train.train_command)
app.command("sample")(sample.sample_command)
app.command("fid")(fid.fid_command)
app.command("loss")(loss.loss_command)
app.command("likelihood")(likelihood.likelihood_command)
app.command("compare")(compare.compare_command)
app.command("neighbors")(neighbors.neighbors_command)
app.command("reference")(reference.reference_command)
app.command("import")(import_.import_command)
app.command("export")(export.export_command)
app.command("doctor")(doctor.doctor_command)
app.command("plan")(plan.plan_command)
app.command("new")(new.new_command)
app.add_typer(data.app, name="data")
