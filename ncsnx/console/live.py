"""Live bars at the bottom of a terminal; messages scroll by above them.

Imports rich, so it is itself imported only when something is drawn.
"""

import io
import os
import sys
from collections.abc import Iterator
from typing import TextIO, cast

from rich.cells import cell_len, set_cell_size
from rich.console import RenderableType
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from ncsnx.console.messages import Messages
from ncsnx.console.view import View

_REFRESHES_PER_SECOND = 4
_GAPS = 4  # characters between the columns
_NAME_WIDTH = 15  # minimum, so that bars don't move while names change


class LiveArea(Progress):
    """Draws views from its own thread until it is stopped: less than 1 % of a core, no cost per step.

    Bars read their view when they are drawn. The view estimates the time left, since rich's estimate ignores pauses and
    fails where progress comes in bursts that are further apart than its window.
    """

    def __init__(self, messages: Messages, view: View, *, transient: bool) -> None:
        self._messages = messages
        self._stray = _StrayOutput(messages, sys.stderr)
        super().__init__(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(complete_style="green"),
            *(TextColumn(f"{{task.fields[parts][{part}]}}", markup=False) for part in range(3)),
            console=messages.console(),
            refresh_per_second=_REFRESHES_PER_SECOND,
            transient=transient,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self.add_task(view.name, total=view.total, view=view)

    def start(self) -> None:
        """Takes over the bottom of the terminal and standard error."""
        super().start()
        self._messages.live = self
        sys.stderr = cast("TextIO", self._stray)

    def stop(self) -> None:
        """Draws a last time and restores the terminal: cursor visible, on a new line."""
        try:
            self._stray.finish()
        finally:
            if sys.stderr is self._stray:
                sys.stderr = self._stray.stream
            self._messages.live = None
            super().stop()

    def get_renderables(self) -> Iterator[RenderableType]:
        """The lines above the bars, as far as there is room, and the bars."""
        width, height = self._messages.console().size
        with self._lock:
            views: list[View] = [task.fields["view"] for task in self.tasks]
            self._update_bars(views, width)
            room = max(height - len(views) - 1, 0)  # the cursor's line at the end
            for line in [line for view in views for line in view.above(width, room)][:room]:
                text = Text.assemble(*line)
                text.truncate(width, overflow="ellipsis")
                yield text
            yield self.make_tasks_table(self.tasks)

    def _update_bars(self, views: list[View], width: int) -> None:
        """Updates the bars. If there is little room, bars shrink first, then names; numbers are never cut."""
        parts = [view.parts() for view in views]
        room = max(width - _GAPS - sum(max(map(cell_len, column)) for column in zip(*parts, strict=True)), 1)
        for task, view, its_parts in zip(self.tasks, views, parts, strict=True):
            name = Text(view.name)
            name.truncate(room, overflow="ellipsis")
            least = min(_NAME_WIDTH, room, width // 4)
            padded = name.plain if name.cell_len >= least else set_cell_size(name.plain, least)
            self.update(task.id, description=padded, completed=view.done, parts=its_parts)


class _StrayOutput(io.TextIOBase):
    """Standard error for other code while the area is live: each line becomes a message above it."""

    def __init__(self, messages: Messages, stream: TextIO) -> None:
        self.stream = stream
        self._messages = messages
        self._unfinished = ""
        self._process = os.getpid()

    def fileno(self) -> int:
        return self.stream.fileno()

    def isatty(self) -> bool:
        return self.stream.isatty()

    def write(self, text: str) -> int:
        # A forked data worker may inherit the console's lock in its locked state and must not wait for it.
        if os.getpid() != self._process:
            return self.stream.write(text)
        *lines, self._unfinished = (self._unfinished + text).split("\n")
        for line in lines:
            self._messages.info(line)
        return len(text)

    def finish(self) -> None:
        if self._unfinished:
            self._messages.info(self._unfinished)
            self._unfinished = ""
