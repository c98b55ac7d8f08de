"""`ncsnx loss`: the held-out loss of a run's checkpoints, in the mean and at each noise level."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ncsnx.cli import options
from ncsnx.cli.command_registry import command
from ncsnx.cli.session import BATCHES, session, work_of
from ncsnx.quantities import number

if TYPE_CHECKING:
    from ncsnx.cli.sweeps import Plan
    from ncsnx.evaluation.candidates import Candidate
    from ncsnx.evaluation.held_out_sweep import HeldOutSweep
    from ncsnx.runs.score_files import Row
    from ncsnx.stopping import StopRequest

_LEVELS_SHOWN = 5


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

        from ncsnx.cli import sweeps
        from ncsnx.config.variants import load_plugins
        from ncsnx.data import data_folder
        from ncsnx.evaluation.held_out_sweep import HeldOutSweep
        from ncsnx.features.data_source import DataSource
        from ncsnx.runs.score_files import best_row
        from ncsnx.runtime import Runtime
        from ncsnx.stopping import StopRequest

        candidates, problems = sweeps.choose(messages, place, selection)
        load_plugins("ncsnx.runtime")
        with StopRequest() as stop:
            source = DataSource.of_run(place, data_folder(data), work_of(messages, stop))
            with stop.at_once():
                sweep = HeldOutSweep(
                    run=place,
                    experiment=experiment,
                    source=source,
                    runtime=Runtime.choose(device=device, threads=threads, plain=plain, compile=compile),
                    seed=seed,
                    passes=passes,
                    batch_size=batch_size,
                )
            plan = _plan(sweep, candidates, sweeps.made(sweep.runtime, note), stop)
            messages.info(f"{place.path}: {sweep.caption()}")
            problems += sweeps.carry_out(messages, plan, f"the sweep {plan.scores.folder}")
        sweeps.show(messages, plan, json)
        best = best_row(plan.rows())
        if best is not None:
            messages.info(f"lowest: step {best['step']:,}, {number(best['score'])}")
        messages.info(f"losses: {plan.scores.folder}/scores.json, .csv; plot: losses.png, .svg")
        sweeps.draw(plan)
        sweeps.refuse_left_out(problems)


def _plan(
    sweep: "HeldOutSweep", candidates: "Sequence[Candidate]", made: dict[str, Any], stop: "StopRequest"
) -> "Plan":
    from ncsnx.cli.sweeps import Plan
    from ncsnx.console.tables import Column
    from ncsnx.evaluation.held_out_sweep import PICTURES
    from ncsnx.quantities import number
    from ncsnx.runs.score_files import values

    scores, sigmas = sweep.scores(), sweep.sigmas
    last = len(sigmas) - 1
    shown = sorted({round(last * place / (_LEVELS_SHOWN - 1)) for place in range(_LEVELS_SHOWN)})

    def cells(row: "Row") -> list[str]:
        losses = values(row, "levels", len(sigmas))
        levels = [losses[level] for level in shown]
        return [f"{row['step']:,}", number(row["score"]), *("" if loss is None else number(loss) for loss in levels)]

    return Plan(
        candidates=candidates,
        scores=scores,
        is_done=lambda candidate, scores: scores.row(candidate.step, candidate.weights_sha256) is not None,
        measure=lambda candidate, advance: sweep.measure(candidate, scores, check_stop=stop.check, advance=advance),
        columns=[
            Column("step", "right"),
            Column("held-out loss", "right"),
            *(Column(f"at σ={sigmas[level]:.3g}", "right") for level in shown),
        ],
        cells=cells,
        units=sweep.units,
        seconds=stop.at_once()(sweep.seconds),
        shorter="fewer passes (--passes 1), fewer checkpoints (a third part of --range), or a GPU (--device cuda)",
        settle=lambda candidate: sweep.settle(candidate, scores),
        draw=lambda: sweep.draw(scores),
        pictures=PICTURES,
        made=made,
    )
