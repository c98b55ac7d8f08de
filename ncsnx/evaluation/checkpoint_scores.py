"""Scores of the checkpoints of a run under one protocol: what a sweep measures and returns."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs

from ncsnx.errors import NcsnxError, Stopped
from ncsnx.evaluation.candidates import Candidate
from ncsnx.evaluation.checkpoint_sweep import CheckpointSweep
from ncsnx.evaluation.engine import discard_needless_parts, measure_all, missing, parts_of, writing
from ncsnx.evaluation.perfect_model import PerfectModel
from ncsnx.quantities import counted, duration, with_error
from ncsnx.ranks.rank_group import ALONE
from ncsnx.results import Column, Result, Table
from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import UnsoundError
from ncsnx.runs.score_files import Row, best_row, value
from ncsnx.runs.writer_lock import writer_of
from ncsnx.work import Work

_LONG_S = 30 * 60
"""Estimated duration above which ways to shorten the sweep are shown."""


@attrs.frozen(kw_only=True)
class CheckpointScore:
    """The score of a checkpoint."""

    step: int
    score: float
    """The number that is lowest for the best checkpoint, such as the Fréchet distance."""
    error: float | None
    """Standard error of the score."""
    weights_sha256: str
    """sha256 of the weights that were measured, in hexadecimal."""
    numbers: Mapping[str, float | None]
    """Every number of the row by its key in scores.json; those of further metrics too."""

    def __str__(self) -> str:
        return f"step {self.step:,}: {with_error(self.score, self.error)}"


@attrs.frozen(kw_only=True, slots=False, repr=False)
class CheckpointScores(Result):
    """Scores of checkpoints under one protocol."""

    sweep: CheckpointSweep
    candidates: Sequence[Candidate]
    left_out: Sequence[str] = ()
    """A line for each checkpoint that couldn't be scored."""
    failure: NcsnxError | None = None
    """Why plots of new scores couldn't be written."""

    @property
    def run(self) -> Run:
        """The run."""
        return self.sweep.run

    @property
    def metric(self) -> str:
        """Name of the score: FID only with the published Inception network."""
        return self.sweep.metric

    @cached_property
    def rows(self) -> list[Row]:
        """The rows of scores.json for the chosen checkpoints, by step."""
        return self.sweep.rows(self.candidates)

    @cached_property
    def scores(self) -> tuple[CheckpointScore, ...]:
        """The scores by step."""
        return tuple(map(self._score, self.rows))

    @property
    def best(self) -> CheckpointScore:
        """The lowest score. Raises NcsnxError if no checkpoint has one."""
        if (row := best_row(self.rows)) is None:
            raise self.problem() or NcsnxError(f"no checkpoint of {self.run.path} has a score")
        return self._score(row)

    @property
    def perfect_model(self) -> PerfectModel | None:
        """Score of real images in place of sampled ones, the noise floor; None if unknown, and for other measures."""
        return self.sweep.perfect_model

    @property
    def protocol(self) -> Mapping[str, Any]:
        """Values that determine the scores."""
        return self.sweep.protocol()

    @property
    def caption(self) -> str:
        """The protocol in words."""
        return self.sweep.caption()

    @property
    def folder(self) -> Path:
        """Folder of scores.json, scores.csv and the plots."""
        return self.sweep.place

    def _score(self, row: Row) -> CheckpointScore:
        numeric = [key for key, number in row.items() if number is None or isinstance(number, int | float)]
        return CheckpointScore(
            step=row["step"],
            score=row["score"],
            error=self.sweep.score.error_in(row),
            weights_sha256=row["weights_sha256"],
            numbers={key: value(row, key) for key in numeric if key != "step"},
        )

    def __repr__(self) -> str:
        row = best_row(self.rows)
        best = "none" if row is None else f"step {row['step']:,}: {self.sweep.score.shown(row)}"
        return f"{self.metric} of {self.run.path}, best {best}\n  {self.caption}"

    def shown(self) -> Sequence[Table | str]:
        best, perfect = best_row(self.rows), self.sweep.perfect_cells()
        rows = [[*self.sweep.cells(row), "best" if row == best else ""] for row in self.rows]
        rows += [] if perfect is None else [[*perfect, ""]]
        columns = [*(Column(title, "right") for title in self.sweep.titles), Column("")]
        return [Table(columns=columns, rows=rows, bold=[place for place, row in enumerate(rows) if row[-1]])]

    def closing(self) -> Sequence[str]:
        best = best_row(self.rows)
        return () if best is None else self.sweep.conclusion(best)

    def problem(self) -> NcsnxError | None:
        if self.failure is not None or not self.left_out:
            return self.failure
        several = len(self.left_out) > 1
        count = f"{counted(len(self.left_out), 'checkpoint')} have" if several else "a checkpoint has"
        return NcsnxError(f"{count} no score: {'; '.join(self.left_out)}")

    def to_json(self) -> object:
        context = self.sweep.context()
        return [{**row, **context} for row in self.rows]

    def heading(self) -> tuple[str, str]:
        return self.metric, str(self.run.path)

    def remarks(self) -> Sequence[str]:
        return [self.caption]


def measure_checkpoints(
    sweep: CheckpointSweep, candidates: Sequence[Candidate], problems: Sequence[str], work: Work, *, shorter: str
) -> CheckpointScores:
    """Measures the candidates that have no row, and draws; on rank 0, where the others end.

    problems: a line for each checkpoint that was left out. shorter: advice against long sweeps. Raises NcsnxError; rows
    measured before are kept, and drawn after a stop request.
    """
    work.info(f"{sweep.run.path}: {sweep.caption()}")
    if (caution := sweep.caution()) is not None:
        work.warning(caution)
    is_new = bool(work.ranks.first(lambda: missing(sweep, candidates), check_stop=work.check_stop))
    if is_new:
        with writing(sweep, work):
            problems = [*problems, *_measure(sweep, candidates, work, shorter)]
    elif work.ranks.is_first:
        _refresh(sweep, candidates, work)
    work.ranks.end_others()
    failure = None
    try:
        sweep.draw_if_outdated()
    except NcsnxError as error:
        if is_new:
            failure = error
        else:
            work.warning(str(error))  # nothing was measured, so the plot that exists will do
    return CheckpointScores(sweep=sweep, candidates=candidates, left_out=problems, failure=failure)


def _measure(sweep: CheckpointSweep, candidates: Sequence[Candidate], work: Work, shorter: str) -> list[str]:
    """Measures missing rows and saves each; returns a line for each checkpoint that could not be scored."""

    def begin() -> list[Candidate]:
        _complete(sweep, candidates, work)
        left = missing(sweep, candidates)  # another process may have measured some in the meantime
        if left:
            _say_what_comes(sweep, left, len(candidates) - len(left), work, shorter)
        return left

    left = work.ranks.first(begin, check_stop=work.check_stop)
    shown: list[tuple[int, str]] = []
    with work.rows(sweep.titles, total=len(left), units=sum(map(sweep.units, left))) as view:

        def added(candidate: Candidate, row: Row) -> None:
            shown.append((candidate.step, candidate.weights_sha256))
            best = best_row(sweep.rows(candidates))
            key = None if best is None else (best["step"], best["weights_sha256"])
            view.row(sweep.cells(row), shown.index(key) if key in shown else None)

        def begun(candidate: Candidate) -> None:
            view.begin(sweep.name(candidate))

        try:
            return measure_all(sweep, left, work, view.advance, begun=begun, added=added)
        except Stopped:
            if work.ranks.is_first:
                with suppress(NcsnxError):  # the next command draws them
                    sweep.draw_if_outdated()
            raise


def _refresh(sweep: CheckpointSweep, candidates: Sequence[Candidate], work: Work) -> None:
    """Completes a sweep that has all rows, unless it is being written."""
    several = f"all {counted(len(candidates), 'checkpoint')} are"
    work.info(f"{several if len(candidates) > 1 else 'the checkpoint is'} already measured")
    is_outdated = any(map(sweep.can_fill, sweep.rows(candidates))) or any(
        parts_of(sweep, candidate).exists() for candidate in candidates
    )
    if is_outdated and writer_of(sweep.place) is None:
        try:
            with writing(sweep, attrs.evolve(work, ranks=ALONE)):
                _complete(sweep, candidates, work)
        except NcsnxError as error:  # existing rows can still be shown
            work.warning(str(error))


def _complete(sweep: CheckpointSweep, candidates: Sequence[Candidate], work: Work) -> None:
    """Removes parts that a kill left behind, and adds missing numbers to rows from kept features where possible."""
    discard_needless_parts(sweep, candidates)
    for row in filter(sweep.can_fill, sweep.rows(candidates)):
        with work.at_once():
            filled = sweep.fill(row)
        if filled is not None:
            sweep.scores.add(filled, sweep.scores.changed)


def _say_what_comes(sweep: CheckpointSweep, left: Sequence[Candidate], done: int, work: Work, shorter: str) -> None:
    """Says how many checkpoints are left, and for how long if the first of them can be loaded."""
    what = counted(len(left), "checkpoint") + (f" ({done:,} more already measured)" if done else "")
    try:
        with work.at_once():
            seconds = sweep.seconds(left[0]) * len(left) / work.ranks.world
    except UnsoundError:  # `measure_all` will leave it out
        work.info(what)
        return
    work.info(f"{what}: about {duration(seconds)}, estimated from a quick timing")
    if seconds > _LONG_S:
        work.info(f"to shorten it: {shorter}")
