"""`ncsnx export`: a self-contained folder with one checkpoint of a run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ncsnx.cli import options
from ncsnx.cli.bad_values import a_count
from ncsnx.cli.command_registry import RUNS_PANEL, command
from ncsnx.cli.path_parameters import a_path
from ncsnx.cli.session import FROM_THE_START, session, work_of
from ncsnx.quantities import counted

if TYPE_CHECKING:
    from ncsnx.console.messages import Messages
    from ncsnx.exchange.exporting import Exported


@command("export", panel=RUNS_PANEL, place=180)
def export_command(
    context: typer.Context,
    run: options.RunName,
    ckpt: options.CheckpointStep = "latest",
    runs: options.Runs = None,
    data: options.DataFolder = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    compile: options.Compile = False,
    graphs: options.EvaluationGraphs = None,
    plain: options.Plain = False,
    precision: options.PicturePrecisionName = None,
    *,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="DIR",
            parser=a_path,
            help="The folder to make; it must not exist yet.",
            rich_help_panel=options.OUTPUT_PANEL,
        ),
    ],
    license: Annotated[
        str,
        typer.Option(
            "--license",
            metavar="ID",
            help="The weights' licence by its name on the Hub, such as mit.",
            rich_help_panel=options.OUTPUT_PANEL,
        ),
    ] = "unknown",
    grid: Annotated[
        int | None,
        typer.Option(
            "--grid",
            metavar="N",
            parser=a_count(0, 100),
            help="Samples in the picture; 0 leaves it out.",
            show_default="16, if they take ten minutes at most",
            rich_help_panel=options.OUTPUT_PANEL,
        ),
    ] = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Export a checkpoint as a self-contained folder.

    The folder holds weights, configuration, a model card and a picture of samples. It needs neither the run nor its
    data: `ncsnx sample DIR` and `ncsnx.load("DIR")` work from it anywhere. It has the form of a model repository of the
    Hugging Face Hub and can be uploaded as it is. The weights are the averaged ones (EMA), or the raw ones of a run
    without EMA.
    """
    with session(FROM_THE_START, verbose=verbose, quiet=quiet) as messages:
        from ncsnx.exchange.card import UNKNOWN_LICENSE, check_license
        from ncsnx.runs.checkpoints.manifest import require_best
        from ncsnx.runs.exported import check_target, unfinished
        from ncsnx.runs.folder import open_run
        from ncsnx.runs.model_source import check_checkpoint
        from ncsnx.runs.names import runs_folder
        from ncsnx.stopping import StopRequest

        place = open_run(runs_folder(runs), run)
        check_checkpoint(place, ckpt)
        check_license(license)
        check_target(out)
        for entry in unfinished(out):
            messages.warning(
                f"{entry} was left by an export that was killed or is still running; once none runs, it can be removed"
            )
        if ckpt == "best":
            messages.info(f"best: {require_best(place)}")

        from ncsnx.exchange.exporting import affordable_samples, draw_samples, export_checkpoint
        from ncsnx.sampling.score_model import build_model, read_weights

        with StopRequest() as stop:
            work = work_of(messages, stop)
            with stop.at_once():
                runtime = options.weights_runtime(context, place.experiment())
                saved = read_weights(place, ckpt)
                which = "EMA weights" if saved.weights == "ema" else "raw weights, since the run has no EMA"
                messages.info(f"{place.path}, step {saved.step:,}: {which}")
                model = build_model(saved, runtime)
                count = affordable_samples(model, work) if grid is None else grid
            samples = draw_samples(model, count, data, work)
            stop.check()
            exported = export_checkpoint(place, saved, model, out, license=license, samples=samples, work=work)
        if license == UNKNOWN_LICENSE:
            messages.info("the model card says `license: unknown`; name the licence there, or with --license")
        _say(messages, exported)
        if json:
            messages.json(_facts(exported, license, count))


def _say(messages: "Messages", exported: "Exported") -> None:
    """Says what was exported, and what to type next."""
    from ncsnx.runs.names import as_typed

    path, size = exported.export.path, exported.config.model_bytes
    sweeps = len(exported.scores)
    scores = f"scores of {counted(sweeps, 'sweep')}" if sweeps else "no scores recorded"
    messages.info(f"exported: {path} ({counted(size, 'byte')} of weights; {scores})")
    messages.info(f"next: ncsnx sample {as_typed(path)} --n 16")


def _facts(exported: "Exported", license: str, count: int) -> dict[str, Any]:
    config = exported.config
    return {
        "folder": str(exported.export.path),
        "run": config.run,
        "step": config.step,
        "weights": config.weights,
        "model_sha256": config.model_sha256,
        "model_bytes": config.model_bytes,
        "license": license,
        "grid": count,
        "scores": [
            {
                "measured": {each.name: {"value": each.value, "error": each.error} for each in score.measured},
                "protocol": score.protocol,
            }
            for score in exported.scores
        ],
    }
