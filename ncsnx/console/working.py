"""Joins a long job to the console: its progress, messages, log and stop."""

from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from ncsnx.console.messages import Messages
from ncsnx.console.progress import progress, rows_view
from ncsnx.stopping import StopRequest
from ncsnx.work import Work


def work_of(messages: Messages, stop: StopRequest | None = None) -> Work:
    """The Work of a long job: progress and messages on the console, and its stop."""
    stop = StopRequest() if stop is None else stop

    def view_training(**facts: Any) -> AbstractContextManager[Any]:
        from ncsnx.console.training import TrainingView

        return TrainingView(messages, **facts)

    return Work(
        progress=partial(progress, messages),
        rows=partial(rows_view, messages),
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
