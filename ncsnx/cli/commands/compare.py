"""`ncsnx compare`: quality against evaluations for every sampler, on one checkpoint of a run."""

import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ncsnx.cli import options
from ncsnx.cli.command_registry import EVALUATE_PANEL, command
from ncsnx.cli.session import BATCHES, Shared, session
from ncsnx.console.working import work_of

if TYPE_CHECKING:
    from ncsnx.console.messages import Messages
    from ncsnx.jobs.comparison_job import MeasuredComparison
    from ncsnx.runs.folder import Run


@command("compare", panel=EVALUATE_PANEL, place=70)
def compare_command(
    context: typer.Context,
    run: options.RunName,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="features.FIELD=VALUE", help="Changes to the features.")
    ] = None,
    ckpt: options.CheckpointStep = "latest",
    n: Annotated[
        int, typer.Option("--n", metavar="N", help="Images per trial.", rich_help_panel=options.IMAGES_PANEL)
    ] = 1000,
    seeds: Annotated[
        int,
        typer.Option(
            "--seeds",
            metavar="N",
            min=1,
            max=100,
            help="Trials per setting, each with a seed of its own.",
            rich_help_panel=options.IMAGES_PANEL,
        ),
    ] = 3,
    samplers: Annotated[
        str,
        typer.Option(
            "--samplers",
            metavar="TAG,…",
            help="all, or some separated by commas: cas,dpmpp-sde.",
            rich_help_panel=options.MEASUREMENT_PANEL,
        ),
    ] = "all",
    evaluations: Annotated[
        str | None,
        typer.Option(
            "--evaluations",
            metavar="N,…",
            help="Evaluations per image that each sampler is tried with (ode takes as many as it needs).",
            show_default="a few from 4 to 20, and a twelfth of the run's own sampler's",
            rich_help_panel=options.MEASUREMENT_PANEL,
        ),
    ] = None,
    features: options.FeaturesTag = None,
    reference: options.ReferenceSet = None,
    runs: options.Runs = None,
    data: options.DataFolder = None,
    cache: options.Cache = None,
    batch_size: options.BatchSize = None,
    device: options.Device = "auto",
    gpus: options.Gpus = None,
    threads: options.Threads = None,
    compile: options.Compile = False,
    graphs: options.EvaluationGraphs = False,
    plain: options.Plain = False,
    precision: options.PrecisionName = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare samplers by quality, evaluations and time.

    Measures on one checkpoint: distance with its spread, share of broken images (rougher than any real one),
    evaluations and seconds per image. The run's own sampler comes first, then settings of every other sampler.

    The recommended setting takes the fewest evaluations whose measured distance is no larger than the run's own
    sampler's, and at most a twelfth of its evaluations (as many, if it takes fewer than 48). If there is none, it is
    the usable one with the smallest distance. Since a choice among many measurements is partly luck, it is measured
    again with fresh seeds, and so is the run's own sampler. It is stored in the run, and sampler=fast selects it in
    `sample`, `restore` and `fid`. Where no setting is usable, nothing is stored, and the exit code is still 0. An
    interrupted comparison resumes.
    """
    with session(BATCHES, verbose=verbose, quiet=quiet, shared=Shared(gpus=gpus, device=device)) as messages:
        from ncsnx.config.overrides import parse_overrides, split_overrides
        from ncsnx.errors import UsageError, require_between
        from ncsnx.runs.folder import open_run
        from ncsnx.runs.names import runs_folder
        from ncsnx.runs.selection import check_checkpoint
        from ncsnx.sampling.request import LEAST_SCORED, MOST_IMAGES, SampleRequest, images_at_once

        place = open_run(runs_folder(runs), run)
        chosen, others = split_overrides(parse_overrides(overrides or []), "features")
        if others:
            raise UsageError(
                f"{others[0].path}: only features.FIELD=VALUE can change here; --samplers chooses the samplers"
            )
        tags = None if samplers.strip() == "all" else [word.strip() for word in samplers.split(",")]
        counts = None if evaluations is None else _counts(evaluations)
        require_between("n", n, LEAST_SCORED, MOST_IMAGES)  # before torch is imported
        at_once = images_at_once(place.experiment().data, batch_size)
        SampleRequest(n=n, batch_size=at_once)
        at_once = messages.ranks.batch_size(n, at_once)
        messages.ranks.first(lambda: check_checkpoint(place, ckpt))

        from ncsnx.cli.feature_options import parse_features
        from ncsnx.jobs.comparison_job import ComparisonJob, carry_out_comparison
        from ncsnx.jobs.distance_options import DistanceOptions
        from ncsnx.stopping import StopRequest

        job = ComparisonJob(
            run=place,
            ckpt=ckpt,
            distance=DistanceOptions(
                features=partial(parse_features, features, settings=chosen),
                reference=reference,
                data=data,
                cache=cache,
            ),
            samplers=tags,
            evaluations=counts,
            n=n,
            seeds=seeds,
            batch_size=at_once,
            runtime=lambda: options.weights_runtime(context, place.experiment(), messages.ranks),
        )
        with StopRequest() as stop:
            measured = carry_out_comparison(job, work_of(messages, stop), stop)
        if measured is None:  # on ranks other than 0
            return
        if json:
            messages.json(measured.verdict.to_json())
        else:
            _show(messages, measured)
        _say_what_next(messages, place, measured, runs)


def _counts(text: str) -> list[int]:
    from ncsnx.errors import UsageError

    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and 1 <= int(word) <= 100_000 for word in words):
        raise UsageError(f"--evaluations {text[:80]!a}: expected whole numbers with commas, such as 6,10,20")
    return sorted({int(word) for word in words})


def _show(messages: "Messages", measured: "MeasuredComparison") -> None:
    from ncsnx.console.tables import Column, table

    texts = {"sampler", "settings", ""}
    columns = [Column(title, "left" if title in texts else "right") for title in measured.titles]
    table(messages, columns, measured.table())


def _say_what_next(messages: "Messages", place: "Run", measured: "MeasuredComparison", runs: Path | None) -> None:
    messages.info(f"results: {measured.comparison.place}/results.json; plot: samplers.png, .svg")
    if measured.verdict.found is not None:
        option = f" --runs {shlex.quote(str(runs))}" if runs is not None else ""
        messages.info(f"next: ncsnx sample {place.name} sampler=fast{option}")
