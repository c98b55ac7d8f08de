"""`ncsnx loss`: the held-out loss of a run's checkpoints, in the mean and at each noise level."""

from typing import TYPE_CHECKING, Annotated

import typer

from ncsnx.cli import options
from ncsnx.cli.command_registry import command
from ncsnx.cli.session import BATCHES, session

if TYPE_CHECKING:
    from ncsnx.work import Work


@command("loss", place=70)
def loss_command(
    run: options.RunName,
    range_: options.Range = "all",
    seed: Annotated[int, typer.Option("--seed", help="The same noise for every checkpoint.")] = 0,
    passes: Annotated[
        int | None,
        typer.Option(
            "--passes",
            metavar="P",
            help="Noise levels that each held-out image is seen at; few make each level's loss uneven. [enough for "
            "20,000 evaluations; at most all]",
        ),
    ] = None,
    batch_size: Annotated[
        int, typer.Option("--batch-size", help="Images at once; changes the loss by rounding at most.")
    ] = 128,
    runs: options.Runs = None,
    data: options.DataFolder = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    compile: options.Compile = False,
    plain: options.Plain = False,
    note: options.Note = "",
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure the held-out score-matching loss of checkpoints, with fixed noise: table, plot, one loss a noise level.

    Losses are kept in the run's loss/ by the weights and the protocol, so that nothing is measured twice. An
    interrupted sweep resumes after its last finished batch of images. A low loss is no promise of good images: for
    those see `ncsnx fid`.
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
        from ncsnx.evaluation.sweeps.held_out_sweep import HeldOutSweep
        from ncsnx.features.data_source import DataSource
        from ncsnx.runtime import Runtime

        def build(work: "Work") -> HeldOutSweep:
            return HeldOutSweep(
                run=place,
                experiment=experiment,
                source=DataSource.of_run(place, data_folder(data), work),
                runtime=Runtime.choose(device=device, threads=threads, plain=plain, compile=compile),
                seed=seed,
                passes=passes,
                batch_size=batch_size,
                note=note,
            )

        shorter = "fewer passes (--passes 1), fewer checkpoints (a third part of --range), or a GPU (--device cuda)"
        sweep_checkpoints(messages, place, selection, build, shorter=shorter, json=json)
