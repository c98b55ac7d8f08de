"""Progress of long work: bars by rich on a terminal, and in a notebook that has ipywidgets; plain lines elsewhere."""

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ncsnx.console.messages import Messages, Verbosity
from ncsnx.console.tables import aligned
from ncsnx.errors import printable
from ncsnx.quantities import counted, duration
from ncsnx.results import Column
from ncsnx.work import Advance

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import Progress

LINE_INTERVAL_S = 10.0
_LEAST_INTERVAL_S = 1.0  # so that a job of a few seconds doesn't print ten lines
_REFRESHES_PER_SECOND = 4
Line = tuple[str, str]
"""Text of a line above a bar, and its rich style."""


class View:
    """Work with a name, a count and a total.

    The drawing thread reads attributes that the working thread replaces, so each is valid at any time.
    """

    def __init__(self, messages: Messages, name: str, total: int, done: int = 0) -> None:
        self.name, self.total, self.done = printable(name), total, done
        self._messages = messages

    def count(self) -> str:
        """Units done and total, as text."""
        return f"{self.done:,}/{self.total:,}"

    def left_s(self) -> float | None:
        """Estimated seconds until the end, or None."""
        return None

    def above(self, room: int) -> Sequence[Line]:
        """Lines above the bar; those beyond `room` are cut."""
        return ()

    def parts(self) -> tuple[str, str, str]:
        """Count, percentage and time left, for the columns beside a bar or for a line."""
        percent = 100 * self.done // self.total if self.total > 0 else 100
        left_s = self.left_s()
        return self.count(), f"{percent} %", "" if left_s is None else f"eta {duration(left_s)}"

    def _say(self, text: str) -> None:
        """Writes a line to the log and, without a bar, to the console."""
        if self._messages.live is not None:
            self._messages.record("info", text)
        else:
            self._messages.info(text)


class Job(View):
    """A view of work whose units are counted."""

    def __init__(self, messages: Messages, name: str, total: int, unit: str = "") -> None:
        """unit: a plural in s or a symbol, such as images or MiB."""
        super().__init__(messages, name, total)
        self._unit = printable(unit)
        self._kept = 0
        self._began_s = self._started_s = self._last_line_s = time.monotonic()
        self._next_tenth = 1

    def advance(self, count: int = 1, *, kept: bool = False) -> None:
        """Counts units that are done. kept: an earlier process did them."""
        self.done += count
        if kept:
            self._kept += count
        if self._messages.live is None and self._is_line_due():
            self._say("  ".join([self.name, *filter(None, self.parts())]))

    def count(self) -> str:
        return f"{self.done:,}/{self._of(self.total)}"

    def left_s(self) -> float | None:
        done = self.done - self._kept
        return None if done <= 0 else (self.total - self.done) * (time.monotonic() - self._started_s) / done

    def summary(self) -> str:
        """Units done and time taken."""
        return f"{self.name}: {self._of(self.done)} in {duration(time.monotonic() - self._began_s)}"

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


class RowsView(Job):
    """The finished rows of a table, such as the checkpoints of a sweep, and the current work."""

    def __init__(self, messages: Messages, columns: Sequence[Column], total: int, units: int) -> None:
        """total: number of rows. units: of work for all of them."""
        super().__init__(messages, "starting", units)
        self._columns, self._rows_to_come = columns, total
        self._rows: tuple[Sequence[str], ...] = ()
        self._best: int | None = None

    def begin(self, name: str) -> None:
        """Names the work that begins now, such as 'step 150,000: sampling'."""
        self.name = printable(name)
        if not self._rows and self.done == self._kept:  # work before the first row doesn't count for the pace
            self._started_s = time.monotonic()

    def row(self, cells: Sequence[str], best: int | None) -> None:
        """Adds a finished row, with a cell for each column. best: index of the best row so far."""
        shown = [printable(cell) for cell in cells]
        words = [f"{column.title} {cell}" for column, cell in zip(self._columns, shown, strict=True) if cell]
        self._say("  ".join(words) + ("  (best so far)" if best == len(self._rows) else ""))
        self._best, self._rows = best, (*self._rows, shown)

    def count(self) -> str:
        return f"{len(self._rows)}/{self._rows_to_come}"

    def above(self, room: int) -> Sequence[Line]:
        """The head and the last rows."""
        rows, best = self._rows, self._best
        if not rows or room < 2:
            return ()
        head, *texts = aligned(self._columns, [[column.title for column in self._columns], *rows])
        lines = [("  " + text, "") for text in texts]
        if best is not None:
            lines[best] = ("★ " + texts[best], "bold green")
        return [("  " + head, "bold"), *lines[1 - room :]]


@contextmanager
def progress(messages: Messages, name: str, *, total: int, unit: str = "") -> Iterator[Advance]:
    """Shows the progress of a job of `total` units: ``with progress(…) as advance: … advance(count)``.

    A bar, or a line at every tenth (at most once per second) and after ten seconds of silence. A last line says how
    long the job took, unless it raised.
    """
    job = Job(messages, name, total, unit)
    with displayed(messages, job):
        yield job.advance
    messages.info(job.summary())


@contextmanager
def rows_view(messages: Messages, titles: Sequence[str], *, total: int, units: int) -> Iterator[RowsView]:
    """Shows a table that fills row by row; the caller prints the final one. Without bars each row is a line."""
    view = RowsView(messages, [Column(title, "right") for title in titles], total, units)
    with displayed(messages, view):
        yield view


@contextmanager
def displayed(messages: Messages, view: View, *, transient: bool = True) -> Iterator[None]:
    """Draws a view within the block, if bars can be drawn and output is not quiet.

    Within another view's block its bar is added to that view's. A `transient` view vanishes at its end.
    """
    if (live := messages.live) is not None:
        bar = live.add_task(view.name, total=view.total, view=view)
        try:
            yield
        finally:
            live.remove_task(bar)
    elif messages.can_redraw and messages.verbosity > Verbosity.QUIET:
        bars = _bars(messages, transient=transient)
        bars.add_task(view.name, total=view.total, view=view)
        try:
            bars.start()  # inside the try: a signal may raise once the cursor is hidden
            messages.live = bars
            yield
        finally:
            messages.live = None
            bars.stop()
    else:
        yield


def _bars(messages: Messages, *, transient: bool) -> "Progress":
    """Bars that read their views when they are drawn, 4 times a second, and lines above them.

    Views estimate the time left: rich's estimate ignores pauses and fails where progress comes in bursts.
    """
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.text import Text

    console = messages.console()

    class Bars(Progress):
        def get_renderables(self) -> "Iterable[RenderableType]":
            views: list[View] = [task.fields["view"] for task in self.tasks]
            for task, view in zip(self.tasks, views, strict=True):
                self.update(task.id, description=view.name, completed=view.done, parts="  ".join(view.parts()))
            room = max(console.size.height - len(views) - 1, 0)  # the cursor's line at the end
            for text, style in [line for view in views for line in view.above(room)][:room]:
                yield Text(text, style, no_wrap=True, overflow="ellipsis")
            yield self.make_tasks_table(self.tasks)

    return Bars(
        TextColumn("{task.description}", style="bold", markup=False),
        BarColumn(complete_style="green"),
        TextColumn("{task.fields[parts]}", markup=False),
        console=console,
        refresh_per_second=_REFRESHES_PER_SECOND,
        transient=transient,
        redirect_stdout=False,
    )


def _leave_the_console() -> None:
    """Gives a forked data worker the real standard error: it may have inherited the console's lock in use."""
    if sys.__stderr__ is not None:
        sys.stderr = sys.__stderr__


os.register_at_fork(after_in_child=_leave_the_console)
