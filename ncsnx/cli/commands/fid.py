"""`ncsnx fid`: scores the checkpoints of a run by the distance of their images to real ones."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ncsnx.cli import options
from ncsnx.cli.command_registry import command
from ncsnx.cli.session import BATCHES, session, work_of
from ncsnx.quantities import counted

if TYPE_CHECKING:
    from ncsnx.cli.judging import Judge
    from ncsnx.cli.sweeps import Plan
    from ncsnx.config.experiment import Experiment
    from ncsnx.console.messages import Messages
    from ncsnx.evaluation.candidates import Candidate
    from ncsnx.evaluation.score_sweep import Sweep, SweepRequest
    from ncsnx.metrics.metric import Metric
    from ncsnx.runs.folder import Run
    from ncsnx.runs.score_files import Row
    from ncsnx.runtime import Runtime
    from ncsnx.stopping import StopRequest
    from ncsnx.work import Work


@command("fid", place=60)
def fid_command(
    run: options.RunName,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="sampler.FIELD=VALUE", help="Changes to the sampler; features.FIELD=VALUE to those."),
    ] = None,
    range_: options.Range = "all",
    n: Annotated[int, typer.Option("--n", help="Images of each checkpoint.")] = 1000,
    seed: Annotated[int, typer.Option("--seed", help="The same images' noise for every checkpoint.")] = 0,
    features: options.FeaturesTag = None,
    reference: options.ReferenceSet = None,
    ensemble: Annotated[
        int,
        typer.Option("--ensemble", metavar="K", help="Average the scores of the last K checkpoints; runs without EMA."),
    ] = 1,
    metrics: Annotated[
        str,
        typer.Option(
            "--metrics",
            metavar="TAG,…",
            help="What else to show: all, or some of precision-recall, density-coverage, inception-score and the "
            "metrics of installed packages.",
        ),
    ] = "",
    precision_recall: Annotated[
        bool, typer.Option("--precision-recall", help="As --metrics precision-recall.")
    ] = False,
    inception_score: Annotated[bool, typer.Option("--inception-score", help="As --metrics inception-score.")] = False,
    keep_images: Annotated[bool, typer.Option("--keep-images", help="Write every image as a PNG.")] = False,
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
    note: options.Note = "",
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Score checkpoints: Fréchet and kernel distance of sampled images to real ones; table, plot, and the best.

    Beside them stands what a perfect model would score: real images in the place of sampled ones.
    With Inception's features these are FID and KID. Scores are kept in the run's fid/ by the weights and the protocol:
    an interrupted sweep resumes where it stopped, and a wider range computes only what is new. Afterwards `--ckpt best`
    means the best of the newest sweep with the most images.
    """
    with session(BATCHES, verbose=verbose, quiet=quiet) as messages:
        from ncsnx.cli.sampler_options import FAST_OVERRIDE, with_sampler
        from ncsnx.config.overrides import parse_overrides, split_overrides
        from ncsnx.errors import require_between
        from ncsnx.runs.checkpoints.ranges import select
        from ncsnx.runs.folder import open_run
        from ncsnx.runs.names import runs_folder
        from ncsnx.sampling.request import LEAST_SCORED, MOST_IMAGES, SampleRequest

        place = open_run(runs_folder(runs), run)
        settings, others = split_overrides(parse_overrides(overrides or []), "features")
        experiment = with_sampler(messages, place, others)
        require_between("n", n, LEAST_SCORED, MOST_IMAGES)  # before torch is imported
        SampleRequest(n=n, seed=seed, batch_size=batch_size)
        selection = select(place, range_)

        from ncsnx.cli import sweeps
        from ncsnx.cli.judging import Judge
        from ncsnx.evaluation.score_sweep import SweepRequest
        from ncsnx.runtime import Runtime
        from ncsnx.stopping import StopRequest

        request = SweepRequest(n=n, seed=seed, batch_size=batch_size, ensemble=ensemble, keep_images=keep_images)
        requested = _requested(metrics, precision_recall=precision_recall, inception_score=inception_score)
        candidates, problems = sweeps.choose(messages, place, selection, ensemble)
        with StopRequest() as stop:
            with stop.at_once():
                runtime = Runtime.choose(device=device, threads=threads, plain=plain, compile=compile)
                judge = Judge(features, settings, reference, data, cache)
                sweep = _sweep(place, experiment, request, runtime, judge, work_of(messages, stop))
            columns = _Columns(sweep, requested)
            plan = _plan(sweep, candidates, columns, sweeps.made(runtime, note), stop)
            _introduce(messages, sweep)
            problems += sweeps.carry_out(messages, plan, f"the sweep {plan.scores.folder}")
        sweeps.show(messages, plan, json)
        _conclude(messages, sweep, plan)
        if FAST_OVERRIDE in others:
            _say_agreement(messages, sweep, plan)
        sweeps.draw(plan)
        sweeps.refuse_left_out(problems)


def _sweep(
    place: "Run",
    experiment: "Experiment",
    request: "SweepRequest",
    runtime: "Runtime",
    judge: "Judge",
    work: "Work",
) -> "Sweep":
    """Features and reference, made where they aren't cached, and the sweep with them."""
    from ncsnx.evaluation.score_sweep import Sweep

    _, features, reference = judge.open(place, experiment, runtime, work)
    perfect_model = reference.perfect_model(request.n, work)
    return Sweep(
        run=place,
        experiment=experiment,
        features=features,
        reference=reference,
        perfect_model=perfect_model,
        request=request,
        runtime=runtime,
        data=judge.data,
    )


def _requested(typed: str, *, precision_recall: bool, inception_score: bool) -> "list[Metric] | None":
    """The metrics that are to be shown beside the distances; None: all that there are. Raises UsageError."""
    from ncsnx.config.checks import quoted
    from ncsnx.config.variants import load_plugins
    from ncsnx.errors import UsageError
    from ncsnx.metrics.metric import all_metrics

    if typed == "all":
        return None
    load_plugins("ncsnx.runtime")
    known = {one.tag: one for one in all_metrics()}
    tags = [tag.strip() for tag in typed.split(",") if tag.strip()]
    tags += ["precision-recall"] * precision_recall + ["inception-score"] * inception_score
    for tag in tags:
        if tag not in known:
            raise UsageError(f"--metrics {quoted(tag)}: expected all, or some of {', '.join(known)}")
    return [known[tag] for tag in tags]


class _Columns:
    """What the table shows of a row: the metrics that are always shown, and those that are requested."""

    def __init__(self, sweep: "Sweep", requested: "list[Metric] | None") -> None:
        from ncsnx.errors import UsageError

        for metric in requested or ():
            if (refusal := sweep.refusal(metric)) is not None:
                raise UsageError(f"{refusal}; leave it out, or choose other images by --reference or --features")
        shown = [one for one in sweep.metrics if requested is None or one in requested or not one.on_request]
        self._shown = [(metric, quantity) for metric in shown for quantity in metric.quantities]
        self._sweep = sweep

    def titles(self) -> list[str]:
        taken = ["evaluations"] if self._sweep.evaluations is None else []
        return ["step", *(one.name(self._sweep.features.name) for _, one in self._shown), *taken]

    def cells(self, row: "Row") -> list[str]:
        from ncsnx.runs.score_files import value

        cells = [f"{row['step']:,}", *(one.shown(row) if metric.is_in(row) else "" for metric, one in self._shown)]
        if self._sweep.evaluations is None:  # a solver that chooses its steps
            taken = value(row, "evaluations")
            cells.append("" if taken is None else f"{taken:,.0f}")
        return cells

    def perfect_model(self) -> list[str] | None:
        """The same of a perfect model, where it is known; None where it isn't."""
        from ncsnx.quantities import with_error

        perfect = self._sweep.perfect_model
        if perfect is None:
            return None
        _, *others = (one for _, one in self._shown)
        known = ["perfect model", with_error(perfect.score, perfect.spread)]
        known += ["" if one.perfect is None else f"{one.perfect:g}" for one in others]
        return known + [""] * (len(self.titles()) - len(known))


def _plan(
    sweep: "Sweep",
    candidates: "Sequence[Candidate]",
    columns: _Columns,
    made: dict[str, Any],
    stop: "StopRequest",
) -> "Plan":
    from ncsnx.cli.sweeps import Plan
    from ncsnx.console.tables import Column
    from ncsnx.evaluation.score_plot import SCORE_PICTURES

    scores = sweep.scores()
    is_outdated = sweep.describe(scores)
    step, *measured = columns.titles()
    return Plan(
        candidates=candidates,
        scores=scores,
        is_done=sweep.is_done,
        measure=lambda candidate, advance: sweep.measure(
            candidate, scores, check_stop=stop.check, advance=lambda: advance(1), at_once=stop.at_once
        ),
        columns=[Column(step, "right"), *(Column(title, "right") for title in measured)],
        cells=columns.cells,
        units=sweep.units,
        seconds=stop.at_once()(sweep.seconds),
        shorter=(
            "fewer images (--n), fewer checkpoints (a third part of --range), fewer evaluations an image (`ncsnx "
            "compare` finds a sampler), larger batches (--batch-size), or a GPU (--device cuda)"
        ),
        settle=lambda candidate: sweep.settle(candidate, scores),
        lacks=lambda row: bool(sweep.lacks(row)),
        can_fill=lambda row: sweep.can_fill(row, scores),
        fill=stop.at_once()(lambda row: sweep.fill(row, scores)),
        draw=lambda: sweep.draw(scores),
        pictures=SCORE_PICTURES,
        made=made,
        perfect_model=columns.perfect_model(),
        is_outdated=is_outdated,
    )


def _introduce(messages: "Messages", sweep: "Sweep") -> None:
    from ncsnx.evaluation.score_sweep import few_images

    messages.info(f"{sweep.run.path}: {sweep.caption()}")
    caution = few_images(sweep.request.n, sweep.reference.count, sweep.features.dimensions)
    if caution is not None:
        messages.warning(caution)


def _say_agreement(messages: "Messages", sweep: "Sweep", plan: "Plan") -> None:
    """How the order of the checkpoints agrees with that by the experiment's own sampler, if that was swept too."""
    from ncsnx.evaluation.comparing.agreement import LEAST, rank_agreement, scores_of_own_sampler
    from ncsnx.quantities import number

    own = scores_of_own_sampler(sweep)
    found = None if own is None else rank_agreement(plan.scores.rows, own.rows)
    if found is None:
        messages.info(
            "made with sampler=fast; whether it orders checkpoints as the run's own sampler does shows once this "
            f"command without sampler=fast has scored {LEAST} or more of them too"
        )
        return
    messages.info(
        f"made with sampler=fast: its order of {counted(found.checkpoints, 'checkpoint')} agrees with that of the "
        f"run's own sampler by a rank correlation of {number(found.correlation)} (1: the same order)"
    )


def _conclude(messages: "Messages", sweep: "Sweep", plan: "Plan") -> None:
    from ncsnx.metrics.frechet import FRECHET_DISTANCE
    from ncsnx.runs.score_files import best_row

    best = best_row(plan.rows())
    if best is None:
        return
    messages.info(f"best: step {best['step']:,}, {sweep.metric} {FRECHET_DISTANCE.shown(best)}")
    perfect = sweep.perfect_model
    messages.info(f"perfect model: {sweep.reference.why_unknown if perfect is None else f'{sweep.metric} {perfect}'}")
    messages.info(f"scores: {plan.scores.folder}/scores.json, .csv; plot: scores.png, .svg")
