"""Joins a long job to the console: its progress, messages, log and stop.

Modules are imported where they are used: every command imports this one.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ncsnx.console.messages import Messages
    from ncsnx.jobs.training_job import TrainingConsole
    from ncsnx.stopping import StopRequest
    from ncsnx.work import Work


def work_of(messages: "Messages", stop: "StopRequest | None" = None) -> "Work":
    """The Work of a long job: progress and messages on the console, and its stop."""
    from ncsnx.console.progress import progress, rows_view
    from ncsnx.console.tables import Column
    from ncsnx.work import SILENT, RowView, Work

    ranks = messages.ranks

    def rows(titles: Sequence[str], *, total: int, units: int) -> AbstractContextManager[RowView]:
        return rows_view(messages, columns=[Column(title, "right") for title in titles], total=total, units=units)

    return Work(
        progress=partial(progress, messages),
        rows=rows,
        check_stop=SILENT.check_stop if stop is None else stop.check,
        at_once=SILENT.at_once if stop is None else stop.at_once,
        info=messages.info,
        warning=messages.warning,
        detail=messages.detail,
        ranks=ranks,
    )


def training_console(messages: "Messages", stop: "StopRequest") -> "TrainingConsole":
    """The console of a training: messages, log and view."""
    from ncsnx.console.training import TrainingView
    from ncsnx.jobs.training_job import TrainingConsole

    return TrainingConsole(work=work_of(messages, stop), attach=messages.attach, view=partial(TrainingView, messages))
