"""`ncsnx likelihood`: how likely held-out images are under a run's checkpoints, in bits per dimension."""

from typing import TYPE_CHECKING, Annotated

import typer

from ncsnx.cli import options
from ncsnx.cli.command_registry import command
from ncsnx.cli.session import BATCHES, session

if TYPE_CHECKING:
    from ncsnx.work import Work


@command("likelihood", place=80)
def likelihood_command(
    run: options.RunName,
    range_: Annotated[
        str,
        typer.Option(
            "--range",
            "--ckpt",
            help="Checkpoints: all, latest, best, 150k, 50k:200k (ends included) or 50k:200k:10k (multiples).",
        ),
    ] = "all",
    n: Annotated[
        int | None, typer.Option("--n", help="Number of held-out images, chosen by the seed. [100, or all of fewer]")
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", help="Determines the choice of images, their dequantization and the probes.")
    ] = 0,
    estimator: Annotated[
        str,
        typer.Option(
            "--estimator",
            help="How the divergence is estimated: hutchinson (random signs; the smaller error), skilling (Gaussian "
            "vectors), or exact (every direction in turn; for small images).",
        ),
    ] = "hutchinson",
    probes: Annotated[
        int | None,
        typer.Option(
            "--probes", metavar="K", help="Random vectors an image, the same at every σ; each is a backward pass. [1]"
        ),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(
            "--tolerance",
            help="Error that the solver allows itself at each step in every image, absolute and relative; 1e-6 to 0.1.",
        ),
    ] = 1e-4,
    batch_size: Annotated[
        int, typer.Option("--batch-size", help="Images that share the solver's steps; changes values within tolerance.")
    ] = 64,
    runs: options.Runs = None,
    data: options.DataFolder = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    plain: options.Plain = False,
    note: options.Note = "",
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure the likelihood of held-out images by the probability-flow ODE: bits per dimension, the fewer the better.

    The number is the sum of three columns: prior, of where the flow carries an image; flow, of how it changes volume;
    scale, of grey levels and data transform. Evaluations are those of the network with its divergence.

    A table, a plot, and for each checkpoint the values of every image as CSV are kept in the run's likelihood/ by the
    weights and the protocol. What was interrupted resumes after its last finished batch of images.
    """
    with session(BATCHES, verbose=verbose, quiet=quiet) as messages:
        from ncsnx.runs.checkpoints.ranges import select
        from ncsnx.runs.folder import open_run
        from ncsnx.runs.names import runs_folder

        place = open_run(runs_folder(runs), run)
        experiment = place.experiment()
        selection = select(place, range_)

        from ncsnx.cli.sweeps import sweep_checkpoints
        from ncsnx.data import data_folder
        from ncsnx.evaluation.sweeps.likelihood_sweep import LikelihoodRequest, LikelihoodSweep
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
                runtime=Runtime.choose(device=device, threads=threads, plain=plain),
                request=request,
                note=note,
            )

        shorter = (
            "fewer images (--n), fewer checkpoints (a third part of --range), a larger --tolerance, or a GPU "
            "(--device cuda)"
        )
        sweep_checkpoints(messages, place, selection, build, shorter=shorter, json=json)
