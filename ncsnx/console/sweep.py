"""What a person sees of a sweep over checkpoints: a table that fills up on a terminal, a line each elsewhere."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ncsnx.console.live import LiveArea, lines_of
from ncsnx.console.messages import Messages, Verbosity
from ncsnx.console.pace import Pace
from ncsnx.console.progress import Silence, bar_line, share
from ncsnx.console.tables import Column, aligned
from ncsnx.console.text import visible

if TYPE_CHECKING:
    from rich.text import Text

# Between sampling there are pauses for features and distances, which a short window would take for a new pace.
_PACE_WINDOW_S = 600.0
_BEST, _OTHER = "★ ", "  "


@contextmanager
def sweep_view(messages: Messages, *, columns: Sequence[Column], total: int, units: int) -> Iterator["SweepView"]:
    """Show a sweep over `total` checkpoints that takes `units` of work as long as the block runs.

    On a terminal that can redraw, a table fills up and vanishes at the end: what is to stay is left to the
    caller. Elsewhere, and inside something that is live already, there is one line for each finished
    checkpoint, and in between sparse ones that tell what is under way. The log gets the lines of finished
    checkpoints in every case. Nothing is shown when quiet.
    """
    if messages.can_redraw and not messages.is_live and messages.verbosity > Verbosity.QUIET:
        live = _LiveView(messages, columns, total, units)
        with LiveArea(messages, live.drawn, transient=True):
            yield live
    else:
        yield _PlainView(messages, columns, total, units)


class SweepView(ABC):
    """The checkpoints of a sweep as they are finished, and what is under way."""

    def __init__(self, messages: Messages, columns: Sequence[Column], total: int, units: int) -> None:
        self._messages = messages
        self._columns = columns
        self._titles = tuple(visible(column.title) for column in columns)
        self._total = total
        self._units = units
        self._done = 0
        self._name = "starting"
        self._has_begun = False  # what is built before the first checkpoint says nothing about the pace
        self._pace = Pace(_PACE_WINDOW_S)
        self._rows: tuple[tuple[str, ...], ...] = ()

    def row(self, cells: Sequence[str], best: int | None) -> None:
        """Add a finished checkpoint; `best` is the index of the best row so far.

        Raises:
            ValueError: there are more or fewer cells than columns.
        """
        shown = tuple(map(visible, cells))
        words = (f"{title} {cell}" for title, cell in zip(self._titles, shown, strict=True) if cell)
        line = "  ".join(words) + ("  (best so far)" if best == len(self._rows) else "")
        self._rows += (shown,)
        self._finished(best, line)

    def begin(self, name: str) -> None:
        """Tell what is under way from now on, such as 'step 150,000: sampling'."""
        self._name = visible(name)
        self._has_begun = True

    @abstractmethod
    def advance(self, count: int = 1) -> None:
        """Count units of work that are done."""

    @abstractmethod
    def _finished(self, best: int | None, line: str) -> None:
        """Show the newest row, which reads as `line` in a log."""


class _PlainView(SweepView):
    """Lines for a file."""

    def __init__(self, messages: Messages, columns: Sequence[Column], total: int, units: int) -> None:
        super().__init__(messages, columns, total, units)
        self._silence = Silence()

    def begin(self, name: str) -> None:
        super().begin(name)
        self._pace.mark(self._done)

    def advance(self, count: int = 1) -> None:
        self._done += count
        if self._silence.is_due(self._done, self._units):
            self._pace.mark(self._done)
            self._say(f"{self._name}  {share(self._done, self._units, self._pace)}")

    def _finished(self, best: int | None, line: str) -> None:
        self._say(line)

    def _say(self, text: str) -> None:
        self._messages.info(text)
        self._silence.broken(self._done, self._units)


class _LiveView(SweepView):
    """A table above a bar, drawn by the thread of a live area."""

    _shown: tuple[Sequence[tuple[str, ...]], int | None] = ((), None)

    def advance(self, count: int = 1) -> None:
        self._done += count

    def _finished(self, best: int | None, line: str) -> None:
        self._messages.record("info", line)
        self._shown = (self._rows, best)  # at once, since another thread reads it

    def drawn(self, width: int) -> "Text":
        height = self._messages.console().height
        rows, best = self._shown
        done = self._done  # read once: the thread that works goes on
        if self._has_begun:
            self._pace.mark(done)
        standing = f"{len(rows)}/{self._total}  {share(done, self._units, self._pace)}"
        bar = bar_line(self._name, standing, done, self._units, width)
        return lines_of(*self._table(rows, best, height - 2), bar)

    def _table(self, rows: Sequence[tuple[str, ...]], best: int | None, height: int) -> list["Text"]:
        """The head and the last rows, in no more than `height` lines; the best one, where it is cut, is put first."""
        from rich.text import Text

        if not rows or height < 2:
            return []
        head, *texts = aligned(self._columns, [self._titles, *rows])
        lines = [
            Text(_BEST + text, style="bold green") if index == best else Text(_OTHER + text)
            for index, text in enumerate(texts)
        ]
        room = height - 1
        if len(lines) > room:
            lines = _cut(lines, best, room)
        return [Text(_OTHER + head, style="bold"), *lines]


def _cut(lines: list["Text"], best: int | None, room: int) -> list["Text"]:
    """As many of the last lines as there is room for below a line that counts those above."""
    from rich.text import Text

    shown = room - 1
    pinned = [lines[best]] if best is not None and best < len(lines) - shown and shown > 1 else []
    last = lines[len(lines) - shown + len(pinned) :]
    above = len(lines) - len(last) - len(pinned)
    return [*pinned, Text(f"{_OTHER}… {above} above", style="dim"), *last]
