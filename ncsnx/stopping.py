"""Ending in good order: a signal sets a flag, which is read between network evaluations."""

import os
import signal
from types import FrameType, TracebackType
from typing import Self

from ncsnx.errors import Stopped

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """While it is entered, SIGTERM and the first Ctrl-C ask the work to end; a second Ctrl-C ends it at once."""

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._interrupts = 0
        self._before: dict[int, object] = {}

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.signal_number is not None

    def check(self) -> None:
        """Raises Stopped if a signal has come."""
        if self.signal_number is not None:
            raise Stopped(f"stopped by {signal.Signals(self.signal_number).name}", self.signal_number)

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number is None:
            self.signal_number = number
        self._interrupts += number == signal.SIGINT
        if self._interrupts == 2:
            raise KeyboardInterrupt  # still restores the terminal on its way out
        if self._interrupts > 2:
            os._exit(128 + signal.SIGINT)
