"""What a person sees of work under way: a bar at the bottom of a terminal, or a plain line now and then."""

from collections.abc import Sequence

from ncsnx.console.messages import Messages
from ncsnx.console.text import visible
from ncsnx.quantities import duration

Line = Sequence[str | tuple[str, str]]
"""A line of a live area: pieces of text, each alone or with a style of rich."""


class View:
    """Work that has a name, a count and an end.

    The thread that draws reads what the thread that works replaces, so each attribute is whole at any time.
    """

    def __init__(self, messages: Messages, name: str, total: int, done: int = 0) -> None:
        self.name, self.total, self.done = visible(name), total, done
        self._messages = messages

    def count(self) -> str:
        """How much is done, and of how much."""
        return f"{self.done:,}/{self.total:,}"

    def left_s(self) -> float | None:
        """Seconds until the end, None while unknown."""
        return None

    def above(self, width: int, room: int) -> Sequence[Line]:
        """Lines that stand above the bar; those that exceed `room` are left out."""
        return ()

    def parts(self) -> tuple[str, str, str]:
        """Count, share and time left, for the columns beside a bar or for a line."""
        percent = 100 * self.done // self.total if self.total > 0 else 100
        left_s = self.left_s()
        return self.count(), f"{percent} %", "" if left_s is None else f"eta {duration(left_s)}"

    def _say(self, text: str) -> None:
        """Write a line to the log, and to whoever sees no bar."""
        if self._messages.live is not None:
            self._messages.record("info", text)
        else:
            self._messages.info(text)
