"""`ncsnx compare`: quality against evaluations for every sampler, on one checkpoint of a run."""

import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ncsnx.cli import options
from ncsnx.cli.bad_values import a_count
from ncsnx.cli.command_registry import command
from ncsnx.cli.session import BATCHES, session, work_of

if TYPE_CHECKING:
    from ncsnx.cli.judging import Judge
    from ncsnx.config.sampler import Sampler
    from ncsnx.console.messages import Messages
    from ncsnx.evaluation.comparing.sampler_comparison import Comparison, Verdict
    from ncsnx.evaluation.comparing.trials import Trials
    from ncsnx.runs.folder import Run
    from ncsnx.runs.score_files import Row
    from ncsnx.runtime import Runtime
    from ncsnx.stopping import StopRequest


@command("compare", place=90)
def compare_command(
    run: options.RunName,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="features.FIELD=VALUE", help="Changes to the features.")
    ] = None,
    samplers: Annotated[
        str, typer.Option("--samplers", metavar="TAGS", help="all, or some with commas: cas,dpmpp-sde.")
    ] = "all",
    evaluations: Annotated[
        str | None,
        typer.Option(
            "--evaluations",
            metavar="COUNTS",
            help="How many evaluations each is tried with (ode: as many as it takes). "
            "[6,8,10,20 and a twelfth of the own sampler's]",
        ),
    ] = None,
    ckpt: Annotated[str, typer.Option("--ckpt", help="Step (150000 or 150k), latest or best.")] = "latest",
    n: Annotated[int, typer.Option("--n", help="Images of each trial.")] = 1000,
    seeds: Annotated[
        int, typer.Option("--seeds", metavar="N", parser=a_count(1, 100), help="Trials of each setting.")
    ] = 3,
    features: options.FeaturesTag = None,
    reference: options.ReferenceSet = None,
    batch_size: Annotated[
        int, typer.Option("--batch-size", help="Images at once; changes an image by rounding at most.")
    ] = 64,
    runs: options.Runs = None,
    data: options.DataFolder = None,
    cache: options.Cache = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    compile: options.Compile = False,
    plain: options.Plain = False,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare samplers on a checkpoint: distance with its spread, broken images, evaluations and seconds an image.

    Broken are images that are rougher than any real one. The run's own sampler is measured first, then settings of
    every other sampler. The nearest to the data of those with at most a twelfth of its evaluations that don't break
    more images is measured again with fresh seeds, since the least of many measurements is too small, and stored in the
    run: `sampler=fast` means it in `sample` and `fid`. Where none is usable, nothing is stored, and the exit code is 0
    all the same. An interrupted comparison resumes.
    """
    with session(BATCHES, verbose=verbose, quiet=quiet) as messages:
        from ncsnx.config.overrides import parse_overrides, split_overrides
        from ncsnx.errors import UsageError, require_between
        from ncsnx.runs.folder import appending, open_run
        from ncsnx.runs.model_source import check_checkpoint
        from ncsnx.runs.names import runs_folder
        from ncsnx.sampling.request import LEAST_SCORED, MOST_IMAGES, SampleRequest

        place = open_run(runs_folder(runs), run)
        chosen, others = split_overrides(parse_overrides(overrides or []), "features")
        if others:
            raise UsageError(
                f"{others[0].path}: only features.FIELD=VALUE can be given here; --samplers says what is tried"
            )
        tags = None if samplers.strip() == "all" else [word.strip() for word in samplers.split(",")]
        counts = None if evaluations is None else _counts(evaluations)
        require_between("n", n, LEAST_SCORED, MOST_IMAGES)  # before torch is imported
        SampleRequest(n=n, batch_size=batch_size)
        check_checkpoint(place, ckpt)

        from ncsnx.cli.judging import Judge
        from ncsnx.evaluation.comparing.sampler_comparison import recommend
        from ncsnx.evaluation.comparing.settings import settings
        from ncsnx.runs.checkpoints.leftovers import remove_debris_in
        from ncsnx.runs.writer_lock import folder_lock
        from ncsnx.runtime import Runtime
        from ncsnx.stopping import StopRequest

        tried = settings(place.experiment(), tags, counts, messages.warning)
        with StopRequest() as stop:
            with stop.at_once():
                runtime = Runtime.choose(device=device, threads=threads, plain=plain, compile=compile)
                judge = Judge(features, chosen, reference, data, cache)
                comparison = _comparison(place, ckpt, judge, n, seeds, batch_size, runtime, stop, messages)
                place_of_trials = comparison.open_place()
            messages.info(f"{place.path}: {comparison.caption()}")
            with folder_lock(place_of_trials, f"the comparison {place_of_trials}"), appending(place):
                remove_debris_in([place_of_trials])
                trials = comparison.trials()
                _measure_all(messages, comparison, tried, trials, stop)
                # what an earlier, wider comparison measured still stands
                seeds_of_all = comparison.first_seeds
                known = [*tried, *(one for one in trials.samplers(seeds_of_all) if one not in tried)]
                rows = [(sampler, comparison.row(sampler, trials, seeds_of_all)) for sampler in known]
                verdict = recommend(
                    rows[0][1],
                    rows[1:],
                    comparison.model.step,
                    comparison.protocol(),
                    partial(_measured_again, messages, comparison, trials, stop),
                )
                results = _results(rows, verdict)
                _draw(place, comparison, rows, results, verdict)
        _store(messages, place, rows[0][1], verdict)
        if json:
            messages.json(results)
        else:
            _show(messages, rows, verdict)
        _say_what_next(messages, place, comparison, verdict, runs)


def _counts(text: str) -> list[int]:
    from ncsnx.errors import UsageError

    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and 1 <= int(word) <= 100_000 for word in words):
        raise UsageError(f"--evaluations {text[:80]!a}: expected whole numbers with commas, such as 6,10,20")
    return sorted({int(word) for word in words})


def _comparison(
    place: "Run",
    ckpt: str,
    judge: "Judge",
    n: int,
    seeds: int,
    batch_size: int,
    runtime: "Runtime",
    stop: "StopRequest",
    messages: "Messages",
) -> "Comparison":
    from ncsnx.data import data_set_of
    from ncsnx.evaluation.comparing.roughness import roughest
    from ncsnx.evaluation.comparing.sampler_comparison import Comparison
    from ncsnx.evaluation.score_sweep import SweepRequest
    from ncsnx.features.real_images import SplitImages
    from ncsnx.runs.checkpoints.manifest import require_best
    from ncsnx.sampling.score_model import load

    if ckpt == "best":
        messages.info(f"best: {require_best(place)}")
    SweepRequest(n=n, batch_size=batch_size)  # checks both
    work = work_of(messages, stop)
    experiment = place.experiment()
    source, network, reference = judge.open(place, experiment, runtime, work)
    return Comparison(
        model=load(place, ckpt, runtime=runtime),
        folder=place.compare,
        features=network,
        reference=reference,
        limit=roughest(SplitImages(source, data_set_of(experiment.data).reference), judge.cache, work),
        n=n,
        seeds=seeds,
        batch_size=batch_size,
        data=judge.data,
    )


def _measure_all(
    messages: "Messages", comparison: "Comparison", tried: "Sequence[Sampler]", trials: "Trials", stop: "StopRequest"
) -> None:
    """The trials that are still to be made with the seeds by which one is chosen."""
    from ncsnx.evaluation.comparing.trials import missing
    from ncsnx.quantities import counted

    for one in trials.found:  # batches that a kill left beside their trial
        comparison.settle(one.sampler, one.seed)
    left = list(missing(tried, comparison.first_seeds, trials))
    if not left:
        messages.info("every trial is measured already")
        return
    there = len(tried) * comparison.seeds - len(left)
    again = f" ({there:,} more measured already)" if there else ""
    messages.info(f"{counted(len(left), 'trial')} of {counted(len(tried), 'setting')}{again}")
    _measure(messages, comparison, left, trials, stop)


def _measured_again(
    messages: "Messages", comparison: "Comparison", trials: "Trials", stop: "StopRequest", sampler: "Sampler"
) -> "Row":
    """The row of a setting from fresh seeds; what is there already isn't measured twice."""
    from ncsnx.config.command_words import typed
    from ncsnx.evaluation.comparing.trials import missing
    from ncsnx.quantities import counted

    left = list(missing([sampler], comparison.fresh_seeds, trials))
    if left:
        messages.info(f"the nearest is measured again with {counted(len(left), 'fresh seed')}: {typed(sampler)}")
        _measure(messages, comparison, left, trials, stop)
    return comparison.row(sampler, trials, comparison.fresh_seeds)


def _measure(
    messages: "Messages",
    comparison: "Comparison",
    left: "Sequence[tuple[Sampler, int]]",
    trials: "Trials",
    stop: "StopRequest",
) -> None:
    """Makes trials with progress, each kept as it is done."""
    from ncsnx.config.command_words import typed
    from ncsnx.console.progress import progress

    total = sum(comparison.states(sampler) for sampler, _ in left)
    with progress(messages, "comparing", total=total, unit="states") as advance:
        for sampler, seed in left:
            messages.detail(f"seed {seed}: {typed(sampler)}")
            row = comparison.measure(sampler, seed, check_stop=stop.check, advance=advance, at_once=stop.at_once)
            trials.add(row)
            comparison.settle(sampler, seed)


def _results(rows: "Sequence[tuple[Sampler, Row]]", verdict: "Verdict") -> list[dict[str, Any]]:
    """The rows as they are written: each with its numbers from fresh seeds, where it was measured again."""
    keys = ("evaluations", "distance", "spread", "broken", "seconds", "seeds")
    recommended = None if verdict.found is None else verdict.found.sampler
    return [
        {
            **row,
            "recommended": sampler == recommended,
            "measured_again": {key: again[key] for key in keys} if (again := verdict.again.get(sampler)) else None,
        }
        for sampler, row in rows
    ]


def _store(messages: "Messages", place: "Run", own: "Row", verdict: "Verdict") -> None:
    """Keeps the recommendation, unless there is one of the same checkpoint that rests on more images; says so."""
    from ncsnx.config.command_words import typed
    from ncsnx.errors import NcsnxError
    from ncsnx.quantities import number
    from ncsnx.runs.fast_sampler import MOST_BROKEN, read_fast, write_fast

    found = verdict.found
    try:
        before = read_fast(place)
    except NcsnxError:  # none, or none that could be used
        before = None
    stays = "" if before is None else f"; sampler=fast still means {typed(before.sampler)}, {before}"
    if found is None:
        messages.info(f"nothing is recommended, and nothing stored: {verdict.reason}{stays}")
        if own["broken"] > MOST_BROKEN:
            messages.info("the run's own sampler breaks too many images too: train longer, then compare again")
        return
    assert found.chosen_by is not None
    chosen = f" (chosen by {number(found.chosen_by['distance'])}, the least of all)"
    if before is not None and before.step == found.step and before.images > found.images:
        messages.info(f"recommended by these trials: {typed(found.sampler)}, {found}{chosen}")
        messages.info(f"not stored, since they are fewer images than before{stays}")
    else:
        write_fast(place, found)
        instead = (
            "" if before is None or before.sampler == found.sampler else f" (in the place of {typed(before.sampler)})"
        )
        messages.info(f"recommended, and stored as sampler=fast{instead}: {typed(found.sampler)}, {found}{chosen}")
    # the distance decides: in few steps no sampler has converged, and one that converges elsewhere may be nearest
    if bias := place.experiment().bias_of(found.sampler):
        messages.warning(bias)


def _draw(
    place: "Run",
    comparison: "Comparison",
    rows: "Sequence[tuple[Sampler, Row]]",
    results: list[dict[str, Any]],
    verdict: "Verdict",
) -> None:
    """Writes results and plot; what was measured again is drawn by its numbers from fresh seeds."""
    from ncsnx.evaluation.comparing.plot_samplers import Point, plot_samplers
    from ncsnx.evaluation.comparing.sampler_comparison import RESULTS
    from ncsnx.runs.fast_sampler import is_usable
    from ncsnx.storage import atomic

    own = rows[0][1]
    protocol, caption = comparison.protocol(), comparison.caption()
    atomic.write_json(comparison.place / RESULTS, {"protocol": protocol, "caption": caption, "rows": results})
    shown = [(sampler, verdict.again.get(sampler, row)) for sampler, row in rows]
    drawn = [(sampler, row) for sampler, row in shown if row["distance"] is not None]
    points = [
        Point(
            row["sampler"],
            row["evaluations"],
            row["distance"],
            row["spread"],
            breaks_more=not is_usable(row, own, comparison.n),
        )
        for _, row in drawn
    ]
    best = None if verdict.found is None else [sampler for sampler, _ in drawn].index(verdict.found.sampler)
    ringed = "" if best is None else "; ringed: measured again with fresh seeds"
    if points:
        plot_samplers(
            comparison.place / "samplers",
            points,
            metric=comparison.metric,
            title=place.name,
            caption=f"{caption}; hollow: breaks too many images{ringed}",
            best=best,
        )


def _show(messages: "Messages", rows: "Sequence[tuple[Sampler, Row]]", verdict: "Verdict") -> None:
    """The table; what was measured again stands under what it was chosen by."""
    from ncsnx.console.tables import Column, table
    from ncsnx.quantities import number, percent, with_error

    def cells(row: "Row", mark: str) -> list[str]:
        distance = "diverged" if row["distance"] is None else with_error(row["distance"], row["spread"])
        words = " ".join(word.removeprefix("sampler.") for word in row["words"].split()[1:])
        evaluations = "" if row["evaluations"] is None else f"{row['evaluations']:,.0f}"
        seconds = "" if row["seconds"] is None else number(row["seconds"])
        return [row["sampler"], words, evaluations, distance, percent(row["broken"]), seconds, mark]

    lines = []
    for sampler, row in rows:
        again = verdict.again.get(sampler)
        lines.append(cells(row, "" if again is None else "chosen by"))
        if again is not None:
            is_fast = verdict.found is not None and sampler == verdict.found.sampler
            lines.append(cells(again, f"measured again: {'fast' if is_fast else 'not usable'}"))
    metric = rows[0][1]["metric"]
    titles = ["sampler", "settings", "evaluations", f"{metric} ± spread", "broken", "s/image", ""]
    right = {"evaluations", f"{metric} ± spread", "broken", "s/image"}
    table(messages, [Column(title, "right" if title in right else "left") for title in titles], lines)


def _say_what_next(
    messages: "Messages", place: "Run", comparison: "Comparison", verdict: "Verdict", runs: Path | None
) -> None:
    messages.info(f"results: {comparison.place}/results.json; plot: samplers.png, .svg")
    if verdict.found is not None:
        option = f" --runs {shlex.quote(str(runs))}" if runs is not None else ""
        messages.info(f"next: ncsnx sample {place.name} sampler=fast{option}")
