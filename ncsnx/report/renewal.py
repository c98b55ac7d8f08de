"""Renews a run's page while it trains: in the background, for at most a hundredth of the time, and never fatally.

The page follows complete checkpoints. If the last renewal took t seconds, the next one begins 100 t after it at the
earliest. There is one at the end; after a stop or an error only if renewals are quick.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from ncsnx.errors import NcsnxError
from ncsnx.report.page import report_page
from ncsnx.runs.folder import Run
from ncsnx.storage.atomic import write_bytes
from ncsnx.storage.reading import refuse_links
from ncsnx.training.observer import ForwardingObserver, TrainingObserver

_QUICK_S = 1.0
"""Longest time in seconds that a renewal may take at a stop, by the one before it."""
_SHARE = 0.01
"""Largest share of the training's time that renewals take, but for the last one."""


def write_report(run: Run) -> None:
    """Writes the page about a run into its folder. Raises NcsnxError."""
    refuse_links(run.report_path)
    write_bytes(run.report_path, report_page([run]).encode("utf-8"))


@contextmanager
def renewed_report(
    run: Run, observer: TrainingObserver, write: Callable[[Run], None] = write_report
) -> Iterator[TrainingObserver]:
    """The observer for a training whose page is renewed at checkpoints and at the end of the block.

    A page that can't be written is a warning of the observer, once.
    """
    renewing = _RenewingObserver(run, observer, write)
    try:
        yield renewing
    except BaseException:
        renewing.finish(is_urgent=True)
        raise
    renewing.finish()


class _RenewingObserver(ForwardingObserver):
    """Passes all events on, and renews the page after checkpoints."""

    def __init__(self, run: Run, observer: TrainingObserver, write: Callable[[Run], None]) -> None:
        super().__init__(observer)
        self._run, self._write = run, write
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="report")
        self._renewal: Future[float] | None = None
        self._not_before = 0.0
        self._warned = False
        self._took_s = 0.0

    def checkpoint(self, step: int, path: Any) -> None:
        self._observer.checkpoint(step, path)
        if self._renewal is not None and not self._renewal.done():
            return
        self._end_renewal()
        if time.monotonic() >= self._not_before:
            self._renewal = self._thread.submit(self._renewed)

    def finish(self, *, is_urgent: bool = False) -> None:
        """Waits for a renewal, and makes the last one, since only now are training's last files complete.

        is_urgent: after a stop or an error, whose process must end soon; leaves out a last renewal that would be slow.
        """
        self._end_renewal()
        if not is_urgent or self._took_s < _QUICK_S:
            self._renewal = self._thread.submit(self._renewed)
            self._end_renewal()
        self._thread.shutdown()

    def _renewed(self) -> float:
        """Runs in the thread; returns how long it took, in seconds."""
        begun = time.monotonic()
        self._write(self._run)
        return time.monotonic() - begun

    def _end_renewal(self) -> None:
        renewal, self._renewal = self._renewal, None
        if renewal is None:
            return
        try:
            took_s = renewal.result()
        except Exception as error:  # whatever is wrong with the page, the training matters more
            if not self._warned:
                self._warned = True
                # without the hints of an NcsnxError: nothing has to be repeated
                reason = error.message if isinstance(error, NcsnxError) else str(error) or type(error).__name__
                self._observer.warning(f"no report: {reason}; training continues without it")
        else:
            self._took_s = took_s
            self._not_before = time.monotonic() + took_s / _SHARE
