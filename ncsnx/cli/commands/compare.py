"""`ncsnx compare`: quality against evaluations for every sampler, on one checkpoint of a run."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ncsnx.cli import options
from ncsnx.cli.bad_values import a_count
from ncsnx.cli.command_registry import EVALUATE_PANEL, command
from ncsnx.cli.session import BATCHES, Shared, session, work_of

if TYPE_CHECKING:
    from ncsnx.cli.parsing.distance_options import DistanceOptions
    from ncsnx.console.messages import Messages
    from ncsnx.evaluation.comparing.outcome import ComparisonOutcome
    from ncsnx.evaluation.comparing.recommendation import Recommendation
    from ncsnx.evaluation.comparing.sampler_comparison import Comparison
    from ncsnx.runs.folder import Run
    from ncsnx.runs.score_files import Row
    from ncsnx.runtime import Runtime
    from ncsnx.work import Work


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
            parser=a_count(1, 100),
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
    graphs: options.EvaluationGraphs = None,
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
    sampler's, and at most a twelfth of its evaluations. If there is none, it is the usable one with the smallest
    distance. Since a choice among many measurements is partly luck, it is measured again with fresh seeds, and so is
    the run's own sampler. It is stored in the run, and sampler=fast selects it in `sample`, `restore` and `fid`. Where
    no setting is usable, nothing is stored, and the exit code is still 0. An interrupted comparison resumes.
    """
    with session(BATCHES, verbose=verbose, quiet=quiet, shared=Shared(gpus=gpus, device=device)) as messages:
        from ncsnx.config.overrides import parse_overrides, split_overrides
        from ncsnx.errors import UsageError, require_between
        from ncsnx.runs.folder import open_run
        from ncsnx.runs.model_source import check_checkpoint
        from ncsnx.runs.names import runs_folder
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
        check_checkpoint(place, ckpt)

        from ncsnx.cli.parsing.distance_options import DistanceOptions
        from ncsnx.evaluation.comparing.comparison_candidates import comparison_candidates
        from ncsnx.evaluation.comparing.outcome import compare
        from ncsnx.evaluation.comparing.recommendation import store_recommendation
        from ncsnx.stopping import StopRequest

        tried = comparison_candidates(place.experiment(), tags, counts, messages.warning)
        distance = DistanceOptions(features, chosen, reference, data, cache)
        with StopRequest() as stop:
            work = work_of(messages, stop)
            with stop.at_once():
                runtime = options.weights_runtime(context, place.experiment(), messages.ranks)
                comparison = _comparison(place, ckpt, distance, n, seeds, at_once, runtime, work)
            messages.info(f"{place.path}: {comparison.caption()}")
            outcome = compare(place, comparison, tried, work)
        if outcome is None:  # on ranks other than 0
            return
        store_recommendation(place, outcome.rows[0][1], outcome.verdict, work_of(messages))
        if json:
            messages.json(outcome.to_json())
        else:
            _show(messages, outcome)
        _say_what_next(messages, place, comparison, outcome.verdict, runs)


def _counts(text: str) -> list[int]:
    from ncsnx.errors import UsageError

    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and 1 <= int(word) <= 100_000 for word in words):
        raise UsageError(f"--evaluations {text[:80]!a}: expected whole numbers with commas, such as 6,10,20")
    return sorted({int(word) for word in words})


def _comparison(
    place: "Run",
    ckpt: str,
    distance: "DistanceOptions",
    n: int,
    seeds: int,
    batch_size: int,
    runtime: "Runtime",
    work: "Work",
) -> "Comparison":
    from ncsnx.data import data_set_of
    from ncsnx.evaluation.comparing.roughness import roughest
    from ncsnx.evaluation.comparing.sampler_comparison import Comparison
    from ncsnx.features.real_images import SplitImages
    from ncsnx.runs.checkpoints.manifest import require_best
    from ncsnx.runs.model_source import check_checkpoint
    from ncsnx.sampling.score_model import load

    step = work.ranks.first(lambda: check_checkpoint(place, ckpt))
    if ckpt == "best":
        work.info(f"best: {require_best(place)}")
    experiment = place.experiment()
    source, network, reference = distance.open(place, experiment, runtime, work)
    real = SplitImages(source, data_set_of(experiment.data).reference)
    return Comparison(
        model=load(place, step, runtime=runtime),
        folder=place.compare,
        features=network,
        reference=reference,
        limit=work.ranks.in_turn(lambda: roughest(real, distance.cache, work), work.check_stop),
        n=n,
        seeds=seeds,
        batch_size=batch_size,
        data=distance.data,
    )


def _show(messages: "Messages", outcome: "ComparisonOutcome") -> None:
    """Writes the table; a setting's second measurement stands below the first."""
    from ncsnx.console.tables import Column, table
    from ncsnx.quantities import number, percent, with_error

    def cells(row: "Row", mark: str) -> list[str]:
        distance = "diverged" if row["distance"] is None else with_error(row["distance"], row["spread"])
        words = " ".join(word.removeprefix("sampler.") for word in row["words"].split()[1:])
        evaluations = "" if row["evaluations"] is None else f"{row['evaluations']:,.0f}"
        seconds = "" if row["seconds"] is None else number(row["seconds"])
        return [row["sampler"], words, evaluations, distance, percent(row["broken"]), seconds, mark]

    lines: list[list[str]] = []
    verdict = outcome.verdict
    for sampler, row in outcome.rows:
        again = verdict.again.get(sampler)
        lines.append(cells(row, "" if again is None or not lines else "chosen by"))
        if again is not None:
            is_fast = verdict.found is not None and sampler == verdict.found.sampler
            result = "the run's own" if len(lines) == 1 else "fast" if is_fast else "rejected"
            lines.append(cells(again, f"measured again: {result}"))
    metric = outcome.rows[0][1]["metric"]
    titles = ["sampler", "settings", "evaluations", f"{metric} ± spread", "broken", "s/image", ""]
    right = {"evaluations", f"{metric} ± spread", "broken", "s/image"}
    table(messages, [Column(title, "right" if title in right else "left") for title in titles], lines)


def _say_what_next(
    messages: "Messages", place: "Run", comparison: "Comparison", verdict: "Recommendation", runs: Path | None
) -> None:
    messages.info(f"results: {comparison.place}/results.json; plot: samplers.png, .svg")
    if verdict.found is not None:
        option = f" --runs {shlex.quote(str(runs))}" if runs is not None else ""
        messages.info(f"next: ncsnx sample {place.name} sampler=fast{option}")
