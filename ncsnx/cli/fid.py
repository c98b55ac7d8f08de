"""`ncsnx fid`: scores the checkpoints of a run by the distance of their images to real ones."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ncsnx.cli import options
from ncsnx.cli.session import BATCHES, session, work_of
from ncsnx.quantities import counted

if TYPE_CHECKING:
    from ncsnx.cli.judging import Judge
    from ncsnx.cli.sweeps import Plan
    from ncsnx.config.experiment import Experiment
    from ncsnx.console.messages import Messages
    from ncsnx.evaluation.candidates import Candidate
    from ncsnx.evaluation.score_sweep import Sweep, SweepRequest
    from ncsnx.runs.folder import Run
    from ncsnx.runs.score_files import Row
    from ncsnx.runtime import Runtime
    from ncsnx.stopping import StopRequest
    from ncsnx.work import Work


def fid_command(
    run: options.RunName,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="sampler.FIELD=VALUE", help="Changes to the sampler; features.FIELD=VALUE to those."),
    ] = None,
    range_: options.Range = "all",
    n: Annotated[int, typer.Option("--n", help="Images of each checkpoint.")] = 1000,
    seed: Annotated[int, typer.Option("--seed", help="The same images' noise for every checkpoint.")] = 0,
    features: options.Features = None,
    reference: options.Reference = None,
    ensemble: Annotated[
        int,
        typer.Option("--ensemble", metavar="K", help="Average the scores of the last K checkpoints; runs without EMA."),
    ] = 1,
    precision_recall: Annotated[
        bool, typer.Option("--precision-recall", help="Show improved precision and recall.")
    ] = False,
    inception_score: Annotated[
        bool, typer.Option("--inception-score", help="Show the Inception score, or that of other features' classes.")
    ] = False,
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
    an interrupted sweep goes on where it stopped, and a wider range computes only what is new. Afterwards `--ckpt best`
    means the best of the newest sweep with the most images.
    """
    with session(BATCHES, verbose=verbose, quiet=quiet) as messages:
        from ncsnx.cli.sampler_options import FAST, with_sampler
        from ncsnx.cli.typos import refuse_typos
        from ncsnx.config.overrides import parse_overrides, split_overrides
        from ncsnx.runs.checkpoints.ranges import select
        from ncsnx.runs.folder import open_run
        from ncsnx.runs.names import runs_folder
        from ncsnx.sample_request import LEAST_SCORED

        place = open_run(runs_folder(runs), run)
        settings, others = split_overrides(parse_overrides(overrides or []), "features")
        experiment = with_sampler(messages, place, others)
        refuse_typos(device, n=n, least=LEAST_SCORED, seed=seed, batch_size=batch_size)
        selection = select(place, range_)

        from ncsnx.cli import sweeps
        from ncsnx.cli.judging import Judge
        from ncsnx.evaluation.score_sweep import SweepRequest
        from ncsnx.runtime import Runtime
        from ncsnx.stopping import StopRequest

        request = SweepRequest(n=n, seed=seed, batch_size=batch_size, ensemble=ensemble, keep_images=keep_images)
        candidates, problems = sweeps.choose(messages, place, selection, ensemble)
        with StopRequest() as stop:
            with stop.at_once():
                runtime = Runtime.choose(device=device, threads=threads, plain=plain, compile=compile)
                judge = Judge(features, settings, reference, data, cache)
                sweep = _sweep(place, experiment, request, runtime, judge, work_of(messages, stop))
            columns = _Columns(sweep, precision_recall=precision_recall, inception_score=inception_score)
            plan = _plan(sweep, candidates, columns, sweeps.made(runtime, note), stop)
            _introduce(messages, sweep)
            problems += sweeps.carry_out(messages, plan, f"the sweep {plan.scores.folder}")
        sweeps.show(messages, plan, json)
        _conclude(messages, sweep, plan)
        if FAST in others:
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


class _Columns:
    """What the table shows of a row."""

    def __init__(self, sweep: "Sweep", *, precision_recall: bool, inception_score: bool) -> None:
        from ncsnx.errors import UsageError

        if precision_recall and sweep.reference.sample is None:
            raise UsageError(
                f"--precision-recall compares images one by one, and {sweep.reference.name} holds mean and covariance "
                "only; give the images with --reference"
            )
        if inception_score and not sweep.features.has_logits:
            raise UsageError(f"--inception-score needs classes, and {sweep.features.name} gives none")
        self._sweep = sweep
        self._precision_recall, self._inception_score = precision_recall, inception_score

    def titles(self) -> list[str]:
        from ncsnx.metrics.naming import inception_score_name, kernel_distance_name

        features = self._sweep.features.name
        kernel = [kernel_distance_name(features)] if self._sweep.reference.sample is not None else []
        covered = ["precision", "recall"] if self._precision_recall else []
        score = [inception_score_name(features)] if self._inception_score else []
        taken = ["evaluations"] if self._sweep.evaluations is None else []
        return ["step", self._sweep.metric, *kernel, *covered, *score, *taken]

    def cells(self, row: "Row") -> list[str]:
        from ncsnx.runs.score_files import value

        cells = [f"{row['step']:,}", _cell(row, "score", "error")]
        if self._sweep.reference.sample is not None:
            cells.append(_cell(row, "kernel_distance", "kernel_distance_error"))
        if self._precision_recall:
            cells += [_share(row, "precision"), _share(row, "recall")]
        if self._inception_score:
            cells.append(_cell(row, "inception_score", "inception_score_spread"))
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
        known = ["perfect model", with_error(perfect.score, perfect.spread)]
        known += ["0"] if self._sweep.reference.sample is not None else []  # in the mean, for any number of images
        return known + [""] * (len(self.titles()) - len(known))


def _cell(row: "Row", key: str, error: str = "") -> str:
    from ncsnx.quantities import with_error
    from ncsnx.runs.score_files import value

    measured = value(row, key)
    return "" if measured is None else with_error(measured, value(row, error))


def _share(row: "Row", key: str) -> str:
    from ncsnx.runs.score_files import value

    measured = value(row, key)
    return "" if measured is None else f"{measured:.3f}"


def _plan(
    sweep: "Sweep",
    candidates: "Sequence[Candidate]",
    columns: _Columns,
    made: dict[str, Any],
    stop: "StopRequest",
) -> "Plan":
    from ncsnx.cli.sweeps import Plan
    from ncsnx.console.tables import Column
    from ncsnx.evaluation.score_plot import PICTURES

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
        draw=lambda: sweep.draw(scores),
        pictures=PICTURES,
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
    from ncsnx.runs.score_files import best_row

    best = best_row(plan.rows())
    if best is None:
        return
    messages.info(f"best: step {best['step']:,}, {sweep.metric} {_cell(best, 'score', 'error')}")
    perfect = sweep.perfect_model
    messages.info(f"perfect model: {sweep.reference.why_unknown if perfect is None else f'{sweep.metric} {perfect}'}")
    messages.info(f"scores: {plan.scores.folder}/scores.json, .csv; plot: scores.png, .svg")
