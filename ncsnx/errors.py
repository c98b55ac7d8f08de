"""User-facing errors: a message of one sentence, hints that say what to type, and an exit code.

Any other exception is a bug of ncsnx and keeps its traceback.
"""

import signal
from typing import Any

import attrs

from ncsnx.quantities import counted
from ncsnx.spelling import parameter


@attrs.frozen
class Hint:
    """A suggestion shown below an error, on its own line: `label: command`, or only the label.

    Hint("download it (43 GB)", "ncsnx data download bedroom128")
    Hint("or say where it is", adds="data.root=DIR")
    Hint("fix or remove that line")
    """

    label: str
    command: str = ""
    """Complete command line to copy."""
    adds: str = ""
    """Argument that the call lacks, as `ncsnx.spelling.argument` writes it."""

    def __str__(self) -> str:
        text = self.command or self.adds
        return f"{self.label}: {text}" if text else self.label


def install_hint(extra: str) -> Hint:
    """The suggestion to install an extra."""
    return Hint("install it, in a clone of ncsnx", f"pip install '.[{extra}]'")


class NcsnxError(Exception):
    """A user-facing error.

    message: one sentence without its full stop: what happened, what was found where, and what is accepted.
    hints: what to type. `str(error)` is the message and the hints in one line.
    """

    exit_code = 1

    def __init__(self, message: str, *hints: Hint) -> None:
        super().__init__(message, *hints)
        self.message, self.hints = message, hints

    def __str__(self) -> str:
        return "; ".join([self.message, *map(str, self.hints)])

    def __reduce__(self) -> tuple[Any, ...]:
        # without the constructor, whose parameters differ in subclasses
        return _restored, (type(self), self.args), self.__dict__


def _restored(cls: type[NcsnxError], arguments: tuple[Any, ...]) -> NcsnxError:
    return cls.__new__(cls, *arguments)


class AdvisedError(NcsnxError):
    """An error with one hint in words, which callers with better advice replace."""

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(message, *([Hint(advice)] if advice else []))
        self.advice = advice


class UsageError(NcsnxError):
    """An error in the command line or the call: an unknown name, an invalid override or option."""

    exit_code = 2


def require_between(name: str, value: int, low: int, high: int, unit: str = "") -> None:
    """Raises UsageError unless value is an int with low <= value <= high. name: the parameter; unit: text behind."""
    if type(value) is not int:  # Python code may give anything
        raise UsageError(f"{parameter(name)} must be an int, not {value!r}")
    if not low <= value <= high:
        raise UsageError(f"{parameter(name)} must be between {low:,} and {high:,}{unit}, not {value:,}")


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out, on the CPU or a GPU. Decided by torch's texts, since torch may not be imported."""
    texts = ("DefaultCPUAllocator", "out of memory", "ALLOC_FAILED")  # of the CPU; of CUDA and MPS; of their libraries
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in texts)
    )


class DivergedError(NcsnxError):
    """Sampling produced NaN or infinity."""


class Stopped(BaseException):
    """A signal or a caller asked the work to end; it shuts down cleanly, with exit code 128 + signal as in shells.

    Like KeyboardInterrupt it isn't an Exception, so that code which handles failures doesn't catch it.
    """

    def __init__(self, message: str, signal_number: int = signal.SIGTERM) -> None:
        super().__init__(message)
        self.signal_number = signal_number
        self.then: str | None = None
        """Effect of repeating the command, as a clause; None if the stopped work doesn't know it."""
        self.exit_code = 128 + signal_number


def printable(text: str, keep: str = "") -> str:
    r"""Text with unprintable characters as readable escapes (``\x1b``, ``\n``), except those in `keep`.

    Names of runs, files and experiments may come from other people, so they pass through here before they reach a
    terminal or a log.
    """
    return "".join(
        char if char.isprintable() or char in keep else char.encode("unicode_escape").decode() for char in text
    )


def quoted(value: object) -> str:
    """The value's repr, cut to a length that fits a message."""
    try:
        return shortened(repr(value))
    except ValueError:  # an integer with more digits than Python converts to text
        return "a number of thousands of digits"


def shortened(text: str) -> str:
    """Text of more than 100 characters cut to 80, followed by its length."""
    return text if len(text) <= 100 else f"{text[:80]}… ({counted(len(text), 'character')})"
