"""Progress of a long job: live on a terminal, sparse plain lines elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ncsnx.console.live import LiveArea, bar
from ncsnx.console.messages import Messages, Verbosity
from ncsnx.console.pace import Pace
from ncsnx.console.text import visible
from ncsnx.quantities import counted, duration
from ncsnx.work import Advance

if TYPE_CHECKING:
    from rich.text import Text

LINE_INTERVAL_S = 10.0
_LEAST_INTERVAL_S = 1.0  # a job of a few seconds doesn't need ten lines
_BAR_WIDTH = 40


def share(done: int, total: int, pace: Pace) -> str:
    """How much is done in percent and, where that is known, the time that is left."""
    percent = 100 * done // total if total > 0 else 100
    remaining_s = pace.remaining_s(done, total)
    return f"{percent} %" if remaining_s is None else f"{percent} %  eta {duration(remaining_s)}"


def bar_line(name: str, standing: str, done: int, total: int, width: int) -> "Text":
    """One line with a name, a bar and where the job stands; the bar has what is left of `width` columns."""
    from rich.text import Text

    bar_width = max(min(_BAR_WIDTH, width - len(name) - len(standing) - 4), 0)
    return Text("  ", no_wrap=True, overflow="ellipsis").join(
        [Text(name, style="bold"), bar(done, total, bar_width), Text(standing)]
    )


class Silence:
    """Tells when a plain line is due: at every tenth, at most one a second, and after ten seconds of silence."""

    def __init__(self) -> None:
        self._last_line_s = time.monotonic()
        self._next_tenth = 1

    def is_due(self, done: int, total: int) -> bool:
        """Whether `done` of `total` is to be told now; the end isn't, since other lines tell that."""
        silence_s = time.monotonic() - self._last_line_s
        at_tenth = 10 * done >= self._next_tenth * total and silence_s >= _LEAST_INTERVAL_S
        return done < total and (at_tenth or silence_s >= LINE_INTERVAL_S)

    def broken(self, done: int, total: int) -> None:
        """Note that a line was written."""
        self._last_line_s = time.monotonic()
        self._next_tenth = 10 * done // total + 1 if total > 0 else 1


@contextmanager
def progress(messages: Messages, name: str, *, total: int, unit: str = "") -> Iterator[Advance]:
    """Show how far a job of `total` units has come: ``with progress(…) as advance: … advance(count)``.

    Live on a terminal. Elsewhere, and inside something that is live already, a line at every tenth (at most
    one a second) and after ten seconds of silence. A last line says how long it took, unless an exception
    passed. unit: what is counted, as a plural in s or a symbol: images, MiB.
    """
    job = _Job(name, total, unit)
    if messages.can_redraw and not messages.is_live and messages.verbosity > Verbosity.QUIET:
        with LiveArea(messages, job.drawn, transient=True):
            yield job.advance
    else:
        yield _PlainJob(job, messages).advance
    messages.info(job.summary())


class _Job:
    def __init__(self, name: str, total: int, unit: str) -> None:
        self.name, self.total, self.unit = visible(name), total, visible(unit)
        self.done = 0
        self.pace = Pace()
        self.pace.mark(0)
        self._started_s = time.monotonic()

    def advance(self, count: int = 1) -> None:
        self.done += count

    def line(self) -> str:
        self.pace.mark(self.done)
        return f"{self.done:,}/{self._of(self.total)}  {share(self.done, self.total, self.pace)}"

    def drawn(self, width: int) -> "Text":
        return bar_line(self.name, self.line(), self.done, self.total, width)

    def summary(self) -> str:
        taken = duration(time.monotonic() - self._started_s)
        return f"{self.name}: {self._of(self.done)} in {taken}"

    def _of(self, count: int) -> str:
        return counted(count, self.unit.removesuffix("s")) if self.unit else f"{count:,}"


class _PlainJob:
    def __init__(self, job: _Job, messages: Messages) -> None:
        self._job = job
        self._messages = messages
        self._silence = Silence()

    def advance(self, count: int = 1) -> None:
        job = self._job
        job.advance(count)
        if self._silence.is_due(job.done, job.total):
            self._messages.info(f"{job.name}  {job.line()}")
            self._silence.broken(job.done, job.total)
