"""`ncsnx loss`: the held-out loss of a run's checkpoints, averaged and at each noise level."""

from typing import TYPE_CHECKING, Annotated

import typer

from ncsnx.cli import options
from ncsnx.cli.command_registry import EVALUATE_PANEL, command
from ncsnx.cli.session import BATCHES, Shared, session

if TYPE_CHECKING:
    from ncsnx.work import Work


@command("loss", panel=EVALUATE_PANEL, place=50)
def loss_command(
    context: typer.Context,
    run: options.RunName,
    range_: options.Range = "all",
    seed: Annotated[
        int,
        typer.Option(
            "--seed",
            metavar="SEED",
            help="Determines the noise, the same for every checkpoint.",
            rich_help_panel=options.IMAGES_PANEL,
        ),
    ] = 0,
    passes: Annotated[
        int | None,
        typer.Option(
            "--passes",
            metavar="P",
            help="Noise levels at which each held-out image is seen. With few, the losses of single levels are noisy.",
            show_default="enough for 20,000 evaluations, at most all levels",
            rich_help_panel=options.MEASUREMENT_PANEL,
        ),
    ] = None,
    runs: options.Runs = None,
    data: options.DataFolder = None,
    batch_size: Annotated[
        int,
        typer.Option(
            "--batch-size",
            metavar="B",
            help="Images at once; changes the loss by rounding at most.",
            rich_help_panel=options.EXECUTION_PANEL,
        ),
    ] = 128,
    device: options.Device = "auto",
    gpus: options.Gpus = None,
    threads: options.Threads = None,
    compile: options.Compile = False,
    graphs: options.EvaluationGraphs = False,
    plain: options.Plain = False,
    precision: options.PrecisionName = None,
    note: options.Note = "",
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure the held-out loss of checkpoints at each noise level.

    The score-matching loss of held-out images with fixed noise: a table, a plot, and one loss per noise level. Losses
    are kept in the run's loss/ by weights and protocol, so that nothing is measured twice. An interrupted sweep resumes
    after its last finished batch. A low loss doesn't promise good images: for those see `ncsnx fid`.
    """
    with session(BATCHES, verbose=verbose, quiet=quiet, shared=Shared(gpus=gpus, device=device)) as messages:
        from ncsnx.runs.folder import open_run
        from ncsnx.runs.names import runs_folder
        from ncsnx.runs.selection import select

        place = open_run(runs_folder(runs), run)
        experiment = place.experiment()
        selection = messages.ranks.first(lambda: select(place, range_))

        from ncsnx.cli.sweeps import sweep_checkpoints
        from ncsnx.data import data_folder
        from ncsnx.evaluation.held_out_sweep import HeldOutSweep
        from ncsnx.features.data_source import DataSource

        def build(work: "Work") -> HeldOutSweep:
            return HeldOutSweep(
                run=place,
                experiment=experiment,
                source=DataSource.of_run(place, data_folder(data), work),
                runtime=options.weights_runtime(context, experiment, messages.ranks),
                seed=seed,
                passes=passes,
                batch_size=batch_size,
                note=note,
            )

        shorter = "fewer passes (--passes 1), fewer checkpoints (a third part of --range), or a GPU (--device cuda)"
        sweep_checkpoints(messages, place, selection, build, shorter=shorter, json=json)
