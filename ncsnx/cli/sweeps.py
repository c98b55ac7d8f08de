"""A sweep over checkpoints, as `fid`, `loss` and `likelihood` carry it out and show it."""

from collections.abc import Callable
from typing import TypeVar

from ncsnx.console.messages import Messages
from ncsnx.console.tables import Column, table
from ncsnx.console.working import work_of
from ncsnx.evaluation.checkpoint_sweep import CheckpointSweep, MeasuredSweep, measure_checkpoints, refuse_left_out
from ncsnx.runs.folder import Run
from ncsnx.runs.selection import Selection
from ncsnx.stopping import StopRequest
from ncsnx.work import Work

Sweep = TypeVar("Sweep", bound=CheckpointSweep)


def sweep_checkpoints(
    messages: Messages, run: Run, selection: Selection, build: Callable[[Work], Sweep], *, shorter: str, json: bool
) -> None:
    """Measures the selected checkpoints, and shows their rows; the parameters are those of `measure_checkpoints`.

    Raises NcsnxError, also where checkpoints had to be left out.
    """
    with StopRequest() as stop:
        measured = measure_checkpoints(run, selection, build, work_of(messages, stop), shorter=shorter)
    if measured is not None:
        show_sweep(messages, measured, json=json)


def show_sweep(messages: Messages, measured: MeasuredSweep[Sweep], *, json: bool) -> None:
    """Shows the rows of a sweep and what follows from them, and draws its plots.

    Raises NcsnxError, also where checkpoints had to be left out.
    """
    _show(messages, measured, json)
    failure, best = measured.draw(work_of(messages)), measured.best
    for line in () if best is None else measured.sweep.conclusion(best):
        messages.info(line)
    if failure is not None:
        raise failure
    refuse_left_out(measured.left_out)


def _show(messages: Messages, measured: MeasuredSweep[Sweep], json: bool) -> None:
    """Writes the rows to standard output: as JSON for scripts, or as a table with the best row marked."""
    sweep, rows = measured.sweep, measured.rows
    if json:
        context = sweep.context()
        messages.json([{**row, **context} for row in rows])
        return
    best = measured.best
    shown = [[*sweep.cells(row), "best" if row == best else ""] for row in rows]
    if (perfect := sweep.perfect_cells()) is not None:
        shown.append([*perfect, ""])
    table(messages, [*(Column(title, "right") for title in sweep.titles), Column("")], shown)
