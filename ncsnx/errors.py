"""The errors that are a person's business: one clear line each, and the exit code that goes with it.

Whatever else is raised is a bug of ncsnx and keeps its traceback.
"""

import signal

from ncsnx.spelling import parameter


class NcsnxError(Exception):
    """Something that can't be done: says what was expected, what was found, where, and what to type next."""

    exit_code = 1


class AdvisedError(NcsnxError):
    """What is wrong, as `said`, and what to do about it, as `advice`: whoever knows better advice says that instead."""

    def __init__(self, said: str, advice: str = "") -> None:
        self.said, self.advice = said, advice
        super().__init__(f"{said}; {advice}" if advice else said)


class UsageError(NcsnxError):
    """What was typed can't be understood: an unknown name, a wrong override, a bad option."""

    exit_code = 2


def require_between(name: str, value: int, low: int, high: int, unit: str = "") -> None:
    """Raises UsageError for the value of a parameter outside low … high."""
    if not low <= value <= high:
        raise UsageError(f"{parameter(name)} must be between {low:,} and {high:,}{unit}, not {value:,}")


class DivergedError(NcsnxError):
    """A sampling produced NaN or infinity."""


class Stopped(BaseException):
    """A signal asked the process to end, and it ends in good order. Exit code 128 + signal, as shells do.

    Like KeyboardInterrupt it is no Exception: whoever makes the best of a failure isn't to take it for one.
    """

    def __init__(self, message: str, signal_number: int = signal.SIGTERM) -> None:
        super().__init__(message)
        self.signal_number = signal_number
        self.then: str | None = None
        """What the same command would do now, where the work that was stopped knows it exactly."""
        self.exit_code = 128 + signal_number
