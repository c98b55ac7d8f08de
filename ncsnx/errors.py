"""User-facing errors: one clear sentence each, what to type next, and the exit code.

Any other exception is a bug of ncsnx and keeps its traceback.
"""

import signal

import attrs

from ncsnx.spelling import parameter


@attrs.frozen
class Hint:
    """What to do about an error, shown on a line of its own: `label: command`, or the label alone.

    Hint("download it (43 GB)", "ncsnx data download bedroom128")
    Hint("or say where it is", adds="data.root=DIR")
    Hint("fix or remove that line")
    """

    label: str
    command: str = ""
    """A whole command line that can be copied."""
    adds: str = ""
    """What the call lacks, as `ncsnx.spelling.argument` writes it; the command line shows it after what was typed."""

    def __str__(self) -> str:
        text = self.command or self.adds
        return f"{self.label}: {text}" if text else self.label


class NcsnxError(Exception):
    """A user-facing error: says what happened, what was found where and what is accepted; hints say what to type.

    message: one sentence without its full stop. As text, an error is its message and hints in one line.
    """

    exit_code = 1

    def __init__(self, message: str, *hints: Hint) -> None:
        super().__init__(message, *hints)
        self.message, self.hints = message, hints

    def __str__(self) -> str:
        return "; ".join([self.message, *map(str, self.hints)])


class AdvisedError(NcsnxError):
    """An error with advice in words, which callers that know better advice replace."""

    def __init__(self, said: str, advice: str = "") -> None:
        super().__init__(said, *([Hint(advice)] if advice else []))
        self.said, self.advice = said, advice


class UsageError(NcsnxError):
    """An error in what was typed: an unknown name, an invalid override or option."""

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
