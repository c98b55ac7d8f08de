"""Scores the newest checkpoint of each run of a parameter sweep, as `ncsnx fid` and `ncsnx loss` do one run's."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import attrs

from ncsnx.errors import NcsnxError
from ncsnx.evaluation.engine.candidates import Candidate
from ncsnx.evaluation.engine.checkpoint_sweep import CheckpointSweep
from ncsnx.evaluation.engine.measuring import missing
from ncsnx.evaluation.engine.sweeping import carry_out, choose
from ncsnx.jobs.parameter_sweep.sweep_comparison import MeasuredRuns
from ncsnx.runs.folder import Run
from ncsnx.runs.score_files import Row, value
from ncsnx.runs.selection import select
from ncsnx.runs.writer_lock import writer_of
from ncsnx.work import Rows, RowView, Work, ignore_message

Opened = Callable[[Run], CheckpointSweep]
"""Opens the measurement of a run's checkpoints. Raises NcsnxError."""


@attrs.frozen
class _Subject:
    """The newest checkpoint of a run, and its measurement."""

    run: Run
    sweep: CheckpointSweep
    candidates: tuple[Candidate, ...]

    def row(self) -> Row | None:
        """The row of the checkpoint, None if it hasn't been measured."""
        return next(iter(self.sweep.rows(self.candidates)), None)


def score_runs(runs: Sequence[Run], opened: Opened, work: Work) -> list[str]:
    """Measures the newest checkpoints of runs, unless they have been; returns a line for each that has no score.

    A run whose scores another process writes is left out. Raises Stopped after a stop request; finished batches are
    kept.
    """
    problems: list[str] = []
    quiet = attrs.evolve(work, info=work.detail)
    subjects = [one for run in runs if (one := _subject(run, opened, quiet, problems)) is not None]
    left = [one for one in subjects if missing(one.sweep, one.candidates)]
    if len(left) < len(subjects):
        work.info(f"{len(subjects) - len(left):,} of {len(subjects):,} already measured")
    if not left:
        return problems
    first = left[0].sweep
    work.info(first.caption())
    if (caution := first.caution()) is not None:
        work.warning(caution)
    titles = ["run", *first.titles]
    units = sum(one.sweep.units(candidate) for one in left for candidate in one.candidates)
    with work.rows(titles, total=len(left), units=units) as view:
        for one in left:
            try:
                # without the plots of a single checkpoint, which `ncsnx fid` and `ncsnx loss` draw when they are asked
                problems += carry_out(one.sweep, one.candidates, attrs.evolve(quiet, rows=_rows_of(one.run, view)), "")
            except NcsnxError as error:
                if (writer := writer_of(one.sweep.place)) is not None:
                    work.info(f"{one.run.name} is left out: its scores are being written by {writer}")
                else:
                    problems.append(f"{one.run.name}: {error}")
    return problems


def measured_runs(runs: Sequence[Run], opened: Opened, *, key: str, work: Work) -> MeasuredRuns | None:
    """The scores of the newest checkpoints of runs, as far as they have been measured, by this process or another.

    None if no run has one. Runs whose checkpoint or scores are damaged are left out, with a warning.
    """
    problems: list[str] = []
    quiet = attrs.evolve(work, info=ignore_message, warning=ignore_message)
    found = {one.run.name: one for run in runs if (one := _subject(run, opened, quiet, problems)) is not None}
    scores = {
        name: score for name, one in found.items() if (row := one.row()) and (score := value(row, "score")) is not None
    }
    if not scores:
        return None
    sweep = next(one.sweep for name, one in found.items() if name in scores)
    return MeasuredRuns(key=key, title=sweep.metric, caption=sweep.caption(), by_run=scores)


def _subject(run: Run, opened: Opened, work: Work, problems: list[str]) -> _Subject | None:
    """The newest checkpoint of a run; a problem and None if it can't be measured."""
    try:
        candidates, unsound = choose(run, select(run, "latest"), work)
        problems += unsound
        return _Subject(run, opened(run), candidates) if candidates else None
    except NcsnxError as error:
        problems.append(f"{run.name}: {error}")
        return None


def _rows_of(run: Run, view: RowView) -> Rows:
    """The rows of a run's measurement, as a part of a table of several runs."""

    @contextmanager
    def rows(titles: Sequence[str], *, total: int, units: int) -> Iterator[RowView]:
        yield _RowsOfRun(view, run.name)

    return rows


class _RowsOfRun(RowView):
    """Adds the rows of a run to the common table."""

    def __init__(self, view: RowView, run: str) -> None:
        self._view, self._run = view, run

    def begin(self, name: str) -> None:
        self._view.begin(f"{self._run}: {name}")

    def advance(self, count: int = 1, *, kept: bool = False) -> None:
        self._view.advance(count, kept=kept)

    def row(self, cells: Sequence[str], best: int | None) -> None:
        self._view.row([self._run, *cells], None)
