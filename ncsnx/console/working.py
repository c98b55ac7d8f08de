"""Joins a long job to the console: its progress, messages, log and stop."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from ncsnx.console.messages import Messages
from ncsnx.console.progress import RowsView, progress, rows_view
from ncsnx.results import Column
from ncsnx.stopping import StopRequest
from ncsnx.work import Work


def work_of(messages: Messages, stop: StopRequest | None = None) -> Work:
    """The Work of a long job: progress and messages on the console, and its stop."""
    stop = StopRequest() if stop is None else stop

    def rows(titles: Sequence[str], *, total: int, units: int) -> AbstractContextManager[RowsView]:
        return rows_view(messages, columns=[Column(title, "right") for title in titles], total=total, units=units)

    def view_training(**facts: Any) -> AbstractContextManager[Any]:
        from ncsnx.console.training import TrainingView

        return TrainingView(messages, **facts)

    return Work(
        progress=partial(progress, messages),
        rows=rows,
        check_stop=stop.check,
        interruptible=stop.interruptible,
        info=messages.info,
        warning=messages.warning,
        detail=messages.detail,
        ranks=messages.ranks,
        stop=stop,
        attach=messages.attach,
        separate=lambda: work_of(messages.separate(), stop),
        training=view_training,
    )
