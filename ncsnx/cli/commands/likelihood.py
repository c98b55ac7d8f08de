"""`ncsnx likelihood`: how likely held-out images are under a run's checkpoints, in bits per dimension."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ncsnx.cli import options
from ncsnx.cli.command_registry import command
from ncsnx.cli.session import BATCHES, session, work_of

if TYPE_CHECKING:
    from ncsnx.cli.sweeps import Plan
    from ncsnx.console.messages import Messages
    from ncsnx.evaluation.candidates import Candidate
    from ncsnx.evaluation.likelihood_sweep import LikelihoodSweep
    from ncsnx.runs.score_files import Row
    from ncsnx.stopping import StopRequest


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

        from ncsnx.cli import sweeps
        from ncsnx.config.variants import load_plugins
        from ncsnx.data import data_folder
        from ncsnx.evaluation.likelihood_sweep import LikelihoodRequest, LikelihoodSweep
        from ncsnx.features.data_source import DataSource
        from ncsnx.runtime import Runtime
        from ncsnx.stopping import StopRequest

        request = LikelihoodRequest(
            n=n,
            seed=seed,
            estimator=estimator,  # type: ignore[arg-type]  # checked there
            probes=probes,
            tolerance=tolerance,
            batch_size=batch_size,
        )
        candidates, problems = sweeps.choose(messages, place, selection)
        load_plugins("ncsnx.runtime")
        with StopRequest() as stop:
            source = DataSource.of_run(place, data_folder(data), work_of(messages, stop))
            with stop.at_once():
                sweep = LikelihoodSweep(
                    run=place,
                    experiment=experiment,
                    source=source,
                    runtime=Runtime.choose(device=device, threads=threads, plain=plain),
                    request=request,
                )
            plan = _plan(sweep, candidates, sweeps.made(sweep.runtime, note), stop)
            messages.info(f"{place.path}: {sweep.caption()}")
            problems += sweeps.carry_out(messages, plan, f"the sweep {plan.scores.folder}")
        sweeps.show(messages, plan, json)
        _conclude(messages, sweep, plan)
        sweeps.draw(plan)
        sweeps.refuse_left_out(problems)


def _plan(
    sweep: "LikelihoodSweep", candidates: "Sequence[Candidate]", made: dict[str, Any], stop: "StopRequest"
) -> "Plan":
    from ncsnx.cli.sweeps import Plan
    from ncsnx.console.tables import Column
    from ncsnx.evaluation.bits_per_dimension import METRIC
    from ncsnx.evaluation.score_plot import SCORE_PICTURES

    scores = sweep.scores()
    titles = ("step", METRIC, "prior", "flow", "scale", "evaluations")
    return Plan(
        candidates=candidates,
        scores=scores,
        is_done=sweep.is_done,
        measure=lambda candidate, advance: sweep.measure(candidate, scores, check_stop=stop.check, advance=advance),
        columns=[Column(title, "right") for title in titles],
        cells=_cells,
        units=sweep.units,
        seconds=stop.at_once()(sweep.seconds),
        shorter=(
            "fewer images (--n), fewer checkpoints (a third part of --range), a larger --tolerance, or a GPU "
            "(--device cuda)"
        ),
        settle=lambda candidate: sweep.settle(candidate, scores),
        draw=lambda: sweep.draw(scores),
        pictures=SCORE_PICTURES,
        made=made,
    )


def _cells(row: "Row") -> list[str]:
    from ncsnx.quantities import with_error
    from ncsnx.runs.score_files import value

    parts = [value(row, key) for key in ("prior", "flow", "scale")]
    evaluations = value(row, "evaluations")
    return [
        f"{row['step']:,}",
        with_error(row["score"], value(row, "error")),
        *("" if bits is None else f"{bits:.3f}" for bits in parts),
        "" if evaluations is None else f"{evaluations:.0f}",
    ]


def _conclude(messages: "Messages", sweep: "LikelihoodSweep", plan: "Plan") -> None:
    from math import log2

    from ncsnx.evaluation.bits_per_dimension import MEANING, METRIC
    from ncsnx.runs.score_files import best_row

    best = best_row(plan.rows())
    if best is None:
        return
    messages.info(
        f"lowest: step {best['step']:,}, {_cells(best)[1]} {METRIC}; grey levels that are all equally likely take "
        f"{log2(sweep.grey_levels):.2f}. The error is that of the mean over images, with the noise of the probes in it"
    )
    messages.info(f"what it means: {MEANING}")
    messages.info(f"values: {plan.scores.folder}/scores.json, .csv, of each image step-….csv; plot: scores.png, .svg")
