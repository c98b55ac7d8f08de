"""View of a sweep over checkpoints: a table that fills row by row on a terminal, one line per checkpoint elsewhere."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ncsnx.console.messages import Messages
from ncsnx.console.pace import Pace
from ncsnx.console.progress import Job, displayed
from ncsnx.console.tables import Column, aligned
from ncsnx.console.text import visible
from ncsnx.console.view import Line

# Long, so that the pauses for features and distances between samplings don't look like a change of pace.
_PACE_WINDOW_S = 600.0
_BEST, _OTHER = "★ ", "  "


@contextmanager
def sweep_view(messages: Messages, *, columns: Sequence[Column], total: int, units: int) -> Iterator["SweepView"]:
    """Shows a sweep over `total` checkpoints and `units` units of work within the block.

    On a terminal that can redraw, a table fills row by row and vanishes at the end; the caller prints the final table.
    Elsewhere each finished checkpoint is a line, with occasional progress lines in between. The log always gets the
    lines of finished checkpoints. Quiet output shows nothing.
    """
    view = SweepView(messages, columns, total, units)
    with displayed(messages, view):
        yield view


class SweepView(Job):
    """The finished checkpoints of a sweep and its current work."""

    def __init__(self, messages: Messages, columns: Sequence[Column], total: int, units: int) -> None:
        super().__init__(messages, "starting", units, window_s=_PACE_WINDOW_S)
        self._columns = columns
        self._titles = tuple(visible(column.title) for column in columns)
        self._checkpoints = total
        self._has_begun = False
        self._finished: tuple[tuple[tuple[str, ...], ...], int | None] = ((), None)  # rows, index of the best

    def begin(self, name: str) -> None:
        """Names the work that begins now, such as 'step 150,000: sampling'."""
        self.name = visible(name)
        if not self._has_begun:  # work before the first checkpoint doesn't count for the pace
            pace = Pace(_PACE_WINDOW_S)
            pace.mark(self.done)
            self._has_begun, self._pace = True, pace

    def row(self, cells: Sequence[str], best: int | None) -> None:
        """Adds a finished checkpoint. best: index of the best row so far.

        Raises ValueError unless there are as many cells as columns.
        """
        shown = tuple(map(visible, cells))
        words = [f"{title} {cell}" for title, cell in zip(self._titles, shown, strict=True) if cell]
        rows, _ = self._finished
        self._finished = ((*rows, shown), best)
        self._say("  ".join(words) + ("  (best so far)" if best == len(rows) else ""))

    def count(self) -> str:
        return f"{len(self._finished[0])}/{self._checkpoints}"

    def above(self, width: int, room: int) -> Sequence[Line]:
        """The head and the last rows; the best row comes first if it would otherwise be cut."""
        rows, best = self._finished
        if not rows or room < 2:
            return ()
        head, *texts = aligned(self._columns, [self._titles, *rows])
        lines: list[Line] = [[(_OTHER + text, "")] for text in texts]
        if best is not None:
            lines[best] = [(_BEST + texts[best], "bold green")]
        return [[(_OTHER + head, "bold")], *_cut(lines, best, room - 1)]


def _cut(lines: Sequence[Line], best: int | None, room: int) -> Sequence[Line]:
    """The last lines that fit below a line with the number of lines above; the best line is kept."""
    if len(lines) <= room:
        return lines
    shown = room - 1
    pinned = [lines[best]] if best is not None and best < len(lines) - shown and shown > 1 else []
    last = lines[len(lines) - shown + len(pinned) :]
    return [*pinned, [(f"{_OTHER}… {len(lines) - len(last) - len(pinned)} above", "dim")], *last]
