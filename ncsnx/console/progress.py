"""Progress of a long job: a bar on a terminal, occasional plain lines elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ncsnx.console.messages import Messages, Verbosity
from ncsnx.console.pace import Pace
from ncsnx.console.text import visible
from ncsnx.console.view import View
from ncsnx.quantities import counted, duration
from ncsnx.work import Advance

if TYPE_CHECKING:
    from ncsnx.console.live import LiveArea
    from ncsnx.console.notebook_area import NotebookArea

LINE_INTERVAL_S = 10.0
_LEAST_INTERVAL_S = 1.0  # so that a job of a few seconds doesn't print ten lines


@contextmanager
def progress(messages: Messages, name: str, *, total: int, unit: str = "") -> Iterator[Advance]:
    """Shows the progress of a job of `total` units: ``with progress(…) as advance: … advance(count)``.

    On a terminal as a bar; elsewhere as a line at every tenth (at most once per second) and after ten seconds of
    silence. A last line says how long the job took, unless it raised. unit: a plural in s or a symbol: images, MiB.
    """
    job = Job(messages, name, total, unit)
    with displayed(messages, job):
        yield job.advance
    messages.info(job.summary())


@contextmanager
def displayed(messages: Messages, view: View, *, transient: bool = True) -> Iterator[None]:
    """Draws a view within the block, if the terminal can redraw and output is not quiet.

    Within another view's block its bar is added to that view's. A `transient` view vanishes at its end.
    """
    if (live := messages.live) is not None:
        bar = live.add_task(view.name, total=view.total, view=view)
        try:
            yield
        finally:
            live.remove_task(bar)
    elif (area := _area(messages, view, transient=transient)) is not None:
        try:
            area.start()  # inside the try: a signal may raise once the cursor is hidden
            yield
        finally:
            area.stop()
    else:
        yield


def _area(messages: Messages, view: View, *, transient: bool) -> "LiveArea | NotebookArea | None":
    """The place where a view can be drawn; None if there is none."""
    if messages.verbosity <= Verbosity.QUIET:
        return None
    if messages.in_notebook:
        from ncsnx.console.notebook_area import NotebookArea  # imports IPython

        return NotebookArea(messages, view, transient=transient)
    if messages.can_redraw:
        from ncsnx.console.live import LiveArea  # imports rich

        return LiveArea(messages, view, transient=transient)
    return None


class Job(View):
    """A view of a job whose units are counted."""

    def __init__(self, messages: Messages, name: str, total: int, unit: str = "", window_s: float = 60.0) -> None:
        """window_s: seconds over which the pace is measured."""
        super().__init__(messages, name, total)
        self._unit = visible(unit)
        self._pace = Pace(window_s)
        self._pace.mark(0)
        self._started_s = self._last_line_s = time.monotonic()
        self._next_tenth = 1

    def advance(self, count: int = 1, *, kept: bool = False) -> None:
        """Counts units that are done. kept: an earlier process did them."""
        self.done += count
        if kept:
            self._pace.shift(count)
        if self._messages.live is None and self._is_line_due():
            self._say("  ".join([self.name, *filter(None, self.parts())]))

    def count(self) -> str:
        return f"{self.done:,}/{self._of(self.total)}"

    def left_s(self) -> float | None:
        self._pace.mark(self.done)
        return self._pace.remaining_s(self.done, self.total)

    def summary(self) -> str:
        """Units done and time taken."""
        return f"{self.name}: {self._of(self.done)} in {duration(time.monotonic() - self._started_s)}"

    def _of(self, count: int) -> str:
        return counted(count, self._unit.removesuffix("s")) if self._unit else f"{count:,}"

    def _is_line_due(self) -> bool:
        """Whether to print a line: at every tenth, at most once per second, and after ten seconds of silence.

        Never at the end, which `summary` reports.
        """
        silence_s = time.monotonic() - self._last_line_s
        at_tenth = 10 * self.done >= self._next_tenth * self.total and silence_s >= _LEAST_INTERVAL_S
        return self.done < self.total and (at_tenth or silence_s >= LINE_INTERVAL_S)

    def _say(self, text: str) -> None:
        super()._say(text)
        self._last_line_s = time.monotonic()
        self._next_tenth = 10 * self.done // self.total + 1 if self.total > 0 else 1
