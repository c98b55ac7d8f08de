"""A sweep over checkpoints, as `fid`, `loss` and `likelihood` carry it out and show it."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from ncsnx.cli.session import work_of
from ncsnx.console.messages import Messages
from ncsnx.console.tables import Column, table
from ncsnx.errors import NcsnxError
from ncsnx.evaluation.engine.candidates import Candidate
from ncsnx.evaluation.engine.checkpoint_sweep import CheckpointSweep
from ncsnx.evaluation.engine.measuring import shared
from ncsnx.evaluation.engine.sweeping import carry_out, choose, refuse_left_out
from ncsnx.runs.checkpoints.ranges import Selection
from ncsnx.runs.folder import Run
from ncsnx.runs.score_files import best_row
from ncsnx.stopping import StopRequest
from ncsnx.work import Work

Sweep = TypeVar("Sweep", bound=CheckpointSweep)


def sweep_checkpoints(
    messages: Messages,
    run: Run,
    selection: Selection,
    build: Callable[[Work], Sweep],
    *,
    shorter: str,
    json: bool,
    ensemble: int = 1,
    closing: Callable[[Sweep], Sequence[str]] = lambda sweep: (),
) -> None:
    """Measures the selected checkpoints, and shows their rows.

    build: makes the sweep; a signal may end it anywhere. shorter: advice against long sweeps. closing: the last
    messages. Raises NcsnxError, also where checkpoints had to be left out.
    """
    candidates, problems = messages.ranks.first(lambda: choose(run, selection, work_of(messages), ensemble))
    with StopRequest() as stop:
        work = work_of(messages, stop)
        with stop.at_once():
            sweep = build(work)
        messages.info(f"{run.path}: {sweep.caption()}")
        if (caution := sweep.caution()) is not None:
            messages.warning(caution)

        def measure() -> tuple[str, list[str]]:
            return sweep.scores.changed, carry_out(sweep, candidates, work, shorter)

        measured = shared(sweep, work, measure)
    if measured is None:  # on ranks other than 0
        return
    before, left_out = measured
    _show(messages, sweep, candidates, json)
    failure = _drawn(sweep)
    best = best_row(sweep.rows(candidates))
    for line in (*(() if best is None else sweep.conclusion(best)), *closing(sweep)):
        messages.info(line)
    if failure is not None and sweep.scores.changed != before:
        raise failure
    if failure is not None:  # nothing was measured, so the plot that exists will do
        messages.warning(str(failure))
    refuse_left_out([*problems, *left_out])


def _drawn(sweep: CheckpointSweep) -> NcsnxError | None:
    """Draws the plots that are due; gives the error if they can't be written."""
    try:
        sweep.draw_if_outdated()
    except NcsnxError as error:
        return error
    return None


def _show(messages: Messages, sweep: CheckpointSweep, candidates: Sequence[Candidate], json: bool) -> None:
    """Writes the rows to standard output: as JSON for scripts, or as a table with the best row marked."""
    rows = sweep.rows(candidates)
    if json:
        context = sweep.context()
        messages.json([{**row, **context} for row in rows])
        return
    best = best_row(rows)
    shown = [[*sweep.cells(row), "best" if row is best else ""] for row in rows]
    if (perfect := sweep.perfect_cells()) is not None:
        shown.append([*perfect, ""])
    table(messages, [*(Column(title, "right") for title in sweep.titles), Column("")], shown)
