"""Bars at the bottom of a terminal, drawn again and again while messages scroll by above them.

Imports rich, and so is imported only when something is drawn.
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
_NAME_WIDTH = 15  # at least, so that bars stay where they are while names change


class LiveArea(Progress):
    """Draws views until it is left, by a thread of its own: less than 1 % of a core, and nothing per step.

    A bar is told of its view when it is drawn. The time left is the view's own: rich's estimate knows no pauses, and
    nothing where progress comes in bursts that are further apart than its window.
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
        """Take the bottom of the terminal, and what is written to standard error."""
        super().start()
        self._messages.live = self
        sys.stderr = cast("TextIO", self._stray)

    def stop(self) -> None:
        """Draw a last time and give the terminal back: the cursor shown, on a line of its own."""
        try:
            self._stray.finish()
        finally:
            if sys.stderr is self._stray:
                sys.stderr = self._stray.stream
            self._messages.live = None
            super().stop()

    def get_renderables(self) -> Iterator[RenderableType]:
        """What stands above the bars, as far as there is room, and the bars."""
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
        """Where there is little room, bars give way first, then names: numbers stay whole."""
        parts = [view.parts() for view in views]
        room = max(width - _GAPS - sum(max(map(cell_len, column)) for column in zip(*parts, strict=True)), 1)
        for task, view, its_parts in zip(self.tasks, views, parts, strict=True):
            name = Text(view.name)
            name.truncate(room, overflow="ellipsis")
            least = min(_NAME_WIDTH, room, width // 4)
            padded = name.plain if name.cell_len >= least else set_cell_size(name.plain, least)
            self.update(task.id, description=padded, completed=view.done, parts=its_parts)


class _StrayOutput(io.TextIOBase):
    """What other code writes to standard error while the area is live: shown above it, a message a line."""

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
        # A forked data worker may inherit the console's lock while it is held, and must not wait for it.
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
