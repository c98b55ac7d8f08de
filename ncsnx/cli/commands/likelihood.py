"""`ncsnx likelihood`: likelihood of held-out images under a run's checkpoints, in bits per dimension."""

from typing import TYPE_CHECKING, Annotated

import typer

from ncsnx.cli import options
from ncsnx.cli.command_registry import EVALUATE_PANEL, command
from ncsnx.cli.session import BATCHES, Shared, session

if TYPE_CHECKING:
    from ncsnx.work import Work


@command("likelihood", panel=EVALUATE_PANEL, place=60)
def likelihood_command(
    run: options.RunName,
    range_: Annotated[
        str,
        typer.Option(
            "--range", "--ckpt", metavar="RANGE", help=options.RANGE_HELP, rich_help_panel=options.IMAGES_PANEL
        ),
    ] = "all",
    n: Annotated[
        int | None,
        typer.Option(
            "--n",
            metavar="N",
            help="Number of held-out images, chosen by the seed.",
            show_default="100, or all of fewer",
            rich_help_panel=options.IMAGES_PANEL,
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            "--seed",
            metavar="SEED",
            help="Determines the choice of images, their dequantization and the probes.",
            rich_help_panel=options.IMAGES_PANEL,
        ),
    ] = 0,
    estimator: Annotated[
        str,
        typer.Option(
            "--estimator",
            metavar="NAME",
            help="Estimator of the divergence: hutchinson (random signs, smaller error), skilling (Gaussian vectors), "
            "or exact (every direction in turn, for small images).",
            rich_help_panel=options.MEASUREMENT_PANEL,
        ),
    ] = "hutchinson",
    probes: Annotated[
        int | None,
        typer.Option(
            "--probes",
            metavar="K",
            help="Random vectors per image, the same at every σ. Each costs a backward pass.",
            show_default="1",
            rich_help_panel=options.MEASUREMENT_PANEL,
        ),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(
            "--tolerance",
            metavar="TOL",
            help="Absolute and relative error allowed to the solver per step and image, from 1e-6 to 0.1.",
            rich_help_panel=options.MEASUREMENT_PANEL,
        ),
    ] = 1e-4,
    runs: options.Runs = None,
    data: options.DataFolder = None,
    batch_size: Annotated[
        int,
        typer.Option(
            "--batch-size",
            metavar="B",
            help="Images at once. Values don't depend on it, except for rounding.",
            rich_help_panel=options.EXECUTION_PANEL,
        ),
    ] = 64,
    device: options.Device = "auto",
    gpus: options.Gpus = None,
    threads: options.Threads = None,
    plain: options.Plain = False,
    note: options.Note = "",
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure bits per dimension of held-out images.

    Solves the probability-flow ODE; lower is better. The value is the sum of three columns: prior (the density where
    the flow takes an image), flow (its change of volume) and scale (grey levels and data transform). Evaluations are
    those of the network with its divergence.

    A table, a plot, and for each checkpoint the values of every image as CSV are kept in the run's likelihood/ by
    weights and protocol. An interrupted measurement resumes after its last finished batch.
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
        from ncsnx.evaluation.likelihood_sweep import LikelihoodSweep
        from ncsnx.evaluation.measurement_requests import LikelihoodRequest
        from ncsnx.features.data_source import DataSource
        from ncsnx.runtime import Runtime

        request = LikelihoodRequest(
            n=n,
            seed=seed,
            estimator=estimator,  # type: ignore[arg-type]  # checked there
            probes=probes,
            tolerance=tolerance,
            batch_size=batch_size,
        )

        def build(work: "Work") -> LikelihoodSweep:
            return LikelihoodSweep(
                run=place,
                experiment=experiment,
                source=DataSource.of_run(place, data_folder(data), work),
                runtime=Runtime.choose(
                    device=device, threads=threads, plain=plain, precision="fp32", ranks=messages.ranks
                ),
                request=request,
                note=note,
            )

        shorter = (
            "fewer images (--n), fewer checkpoints (a third part of --range), a larger --tolerance, or a GPU "
            "(--device cuda)"
        )
        sweep_checkpoints(messages, place, selection, build, shorter=shorter, json=json)
