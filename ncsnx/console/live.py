"""A block of lines at the bottom of a terminal, drawn again and again while messages scroll by above it."""

import io
import os
import sys
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO, cast

from ncsnx.console.messages import Messages

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

REFRESHES_PER_SECOND = 4


class LiveArea:
    """Draws a block until it is closed, by a thread of its own: about 0.5 % of a core, and nothing per step.

    Used as a context manager, it always gives the terminal back: the cursor shown, on a line of its own.
    """

    def __init__(self, messages: Messages, draw: Callable[[int], "Text"], *, transient: bool = False) -> None:
        """`draw` gets the width of the terminal in columns, and returns lines that are cut to it.

        It is called from another thread. A `transient` area vanishes at its end. The terminal must be one
        that can redraw (`messages.can_redraw`).
        """
        self._messages = messages
        self._draw = draw
        self._transient = transient
        self._live: Live | None = None
        self._stray: _StrayOutput | None = None

    def __enter__(self) -> Self:
        from rich.live import Live

        console = self._messages.console()
        self._live = Live(
            get_renderable=lambda: self._draw(console.width),
            console=console,
            refresh_per_second=REFRESHES_PER_SECOND,
            transient=self._transient,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._stray = _StrayOutput(self._messages, sys.stderr)
        self._live.start(refresh=True)
        self._messages.is_live = True
        sys.stderr = cast("TextIO", self._stray)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Draw a last time and give the terminal back; does nothing the second time."""
        live, self._live = self._live, None
        if live is None or self._stray is None:
            return
        try:
            self._stray.finish()
        finally:
            if sys.stderr is self._stray:
                sys.stderr = self._stray.stream
            self._messages.is_live = False
            live.stop()


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


def lines_of(*lines: "Text") -> "Text":
    """Lines joined to one block in which each is cut, not wrapped, at the width of the terminal."""
    from rich.text import Text

    return Text("\n", no_wrap=True, overflow="ellipsis").join(lines)


def bar(done: int, total: int, width: int) -> "Text":
    """A bar of `width` characters, filled in proportion to `done` of `total`."""
    from rich.text import Text

    filled = round(width * min(done / total, 1.0)) if total > 0 else width
    return Text.assemble(("━" * filled, "green"), ("╌" * (width - filled), "dim"))
