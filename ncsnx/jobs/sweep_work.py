"""Carries out sweeps over the checkpoints of a run, from the choice of checkpoints to the rows and plots."""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import attrs

from ncsnx.errors import NcsnxError
from ncsnx.evaluation.engine.candidates import Candidate
from ncsnx.evaluation.engine.checkpoint_sweep import CheckpointSweep
from ncsnx.evaluation.engine.measuring import shared
from ncsnx.evaluation.engine.sweeping import carry_out, choose
from ncsnx.runs.folder import Run
from ncsnx.runs.score_files import Row, best_row
from ncsnx.runs.selection import Selection
from ncsnx.stopping import StopRequest
from ncsnx.work import Work

Sweep = TypeVar("Sweep", bound=CheckpointSweep)


@attrs.frozen(kw_only=True)
class MeasuredSweep(Generic[Sweep]):
    """A sweep whose checkpoints have rows, but for those left out."""

    sweep: Sweep
    candidates: Sequence[Candidate]
    left_out: Sequence[str]
    """A line for each checkpoint that couldn't be scored."""
    is_new: bool
    """Whether any row was measured now."""

    @property
    def rows(self) -> list[Row]:
        """The rows of the chosen checkpoints, by step."""
        return self.sweep.rows(self.candidates)

    @property
    def best(self) -> Row | None:
        """The row with the lowest score."""
        return best_row(self.rows)

    def draw(self, work: Work) -> NcsnxError | None:
        """Draws the plots that are due. Returns the error if plots of new rows can't be written."""
        try:
            self.sweep.draw_if_outdated()
        except NcsnxError as error:
            if self.is_new:
                return error
            work.warning(str(error))  # nothing was measured, so the plot that exists will do
        return None


def measure_checkpoints(
    run: Run,
    selection: Selection,
    build: Callable[[Work], Sweep],
    work: Work,
    stop: StopRequest,
    *,
    shorter: str,
    ensemble: int = 1,
) -> MeasuredSweep[Sweep] | None:
    """Measures the selected checkpoints; None on ranks other than 0.

    build: makes the sweep; a signal may end it anywhere. shorter: advice against long sweeps. Raises NcsnxError.
    """
    with stop.at_once():
        candidates, problems = work.ranks.first(lambda: choose(run, selection, work, ensemble))
        sweep = build(work)
    work.info(f"{run.path}: {sweep.caption()}")
    if (caution := sweep.caution()) is not None:
        work.warning(caution)

    def measure() -> tuple[str, list[str]]:
        return sweep.scores.changed, carry_out(sweep, candidates, work, shorter)

    measured = shared(sweep, work, measure)
    if measured is None:
        return None
    before, left_out = measured
    return MeasuredSweep(
        sweep=sweep,
        candidates=candidates,
        left_out=[*problems, *left_out],
        is_new=sweep.scores.changed != before,
    )
