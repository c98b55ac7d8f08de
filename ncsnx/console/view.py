"""View of running work: a bar at the bottom of a terminal, or occasional plain lines."""

from collections.abc import Sequence

from ncsnx.console.messages import Messages
from ncsnx.console.text import visible
from ncsnx.quantities import duration

Line = Sequence[str | tuple[str, str]]
"""A line of a live area: pieces of text, each optionally with a rich style."""


class View:
    """Work with a name, a count and a total.

    The drawing thread reads attributes that the working thread replaces, so each is valid at any time.
    """

    def __init__(self, messages: Messages, name: str, total: int, done: int = 0) -> None:
        self.name, self.total, self.done = visible(name), total, done
        self._messages = messages

    def count(self) -> str:
        """Units done and total, as text."""
        return f"{self.done:,}/{self.total:,}"

    def left_s(self) -> float | None:
        """Estimated seconds until the end, or None."""
        return None

    def above(self, width: int, room: int) -> Sequence[Line]:
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
