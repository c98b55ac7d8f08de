"""What a person sees of a sweep over checkpoints: a table that fills up on a terminal, a line each elsewhere."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ncsnx.console.messages import Messages
from ncsnx.console.pace import Pace
from ncsnx.console.progress import Job, displayed
from ncsnx.console.tables import Column, aligned
from ncsnx.console.text import visible
from ncsnx.console.view import Line

# Between sampling there are pauses for features and distances, which a short window would take for a new pace.
_PACE_WINDOW_S = 600.0
_BEST, _OTHER = "★ ", "  "


@contextmanager
def sweep_view(messages: Messages, *, columns: Sequence[Column], total: int, units: int) -> Iterator["SweepView"]:
    """Show a sweep over `total` checkpoints that takes `units` of work as long as the block runs.

    On a terminal that can redraw, a table fills up and vanishes at the end: what is to stay is left to the
    caller. Elsewhere there is one line for each finished checkpoint, and in between sparse ones that tell what
    is under way. The log gets the lines of finished checkpoints in every case. Nothing is shown when quiet.
    """
    view = SweepView(messages, columns, total, units)
    with displayed(messages, view):
        yield view


class SweepView(Job):
    """The checkpoints of a sweep as they are finished, and what is under way."""

    def __init__(self, messages: Messages, columns: Sequence[Column], total: int, units: int) -> None:
        super().__init__(messages, "starting", units, window_s=_PACE_WINDOW_S)
        self._columns = columns
        self._titles = tuple(visible(column.title) for column in columns)
        self._checkpoints = total
        self._has_begun = False
        self._finished: tuple[tuple[tuple[str, ...], ...], int | None] = ((), None)  # rows, and the best one's index

    def begin(self, name: str) -> None:
        """Tell what is under way from now on, such as 'step 150,000: sampling'."""
        self.name = visible(name)
        if not self._has_begun:  # what is built before the first checkpoint says nothing about the pace
            pace = Pace(_PACE_WINDOW_S)
            pace.mark(self.done)
            self._has_begun, self._pace = True, pace

    def row(self, cells: Sequence[str], best: int | None) -> None:
        """Add a finished checkpoint; `best` is the index of the best row so far.

        Raises:
            ValueError: there are more or fewer cells than columns.
        """
        shown = tuple(map(visible, cells))
        words = [f"{title} {cell}" for title, cell in zip(self._titles, shown, strict=True) if cell]
        rows, _ = self._finished
        self._finished = ((*rows, shown), best)
        self._say("  ".join(words) + ("  (best so far)" if best == len(rows) else ""))

    def count(self) -> str:
        return f"{len(self._finished[0])}/{self._checkpoints}"

    def above(self, width: int, room: int) -> Sequence[Line]:
        """The head and the last rows; the best one, where it would be left out, is put first."""
        rows, best = self._finished
        if not rows or room < 2:
            return ()
        head, *texts = aligned(self._columns, [self._titles, *rows])
        lines: list[Line] = [[(_OTHER + text, "")] for text in texts]
        if best is not None:
            lines[best] = [(_BEST + texts[best], "bold green")]
        return [[(_OTHER + head, "bold")], *_cut(lines, best, room - 1)]


def _cut(lines: Sequence[Line], best: int | None, room: int) -> Sequence[Line]:
    """As many of the last lines as there is room for below a line that counts those above."""
    if len(lines) <= room:
        return lines
    shown = room - 1
    pinned = [lines[best]] if best is not None and best < len(lines) - shown and shown > 1 else []
    last = lines[len(lines) - shown + len(pinned) :]
    return [*pinned, [(f"{_OTHER}… {len(lines) - len(last) - len(pinned)} above", "dim")], *last]
