"""Running foreign code (experiment files, installed packages), which can fail in any way."""

import contextlib
import sys
from collections.abc import Iterator

from ncsnx.errors import NcsnxError, Stopped, printable, shortened
from ncsnx.quantities import counted

_LONGEST_MESSAGE = 400  # characters: a line or two; longer than any of our own messages


class ForeignError(Exception):
    """Foreign code raised an exception, which is `error`."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


@contextlib.contextmanager
def foreign_code() -> Iterator[None]:
    """Within the block, output goes to standard error, and every exception becomes a ForeignError.

    That includes SystemExit. Only Stopped and KeyboardInterrupt leave the block unchanged.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for data
            yield
    except (Stopped, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise ForeignError(error) from error


@contextlib.contextmanager
def foreign_errors(what: str) -> Iterator[None]:
    """Turns an exception of the block into an NcsnxError "WHAT: TYPE: message"; an NcsnxError passes unchanged."""
    try:
        yield
    except NcsnxError:
        raise
    except (Exception, SystemExit) as error:
        raise NcsnxError(f"{what}: {error_in_words(error)}") from error


def message_of(error: BaseException) -> str:
    """The message of an exception: one printable line of limited length."""
    try:
        text = str(error)
    except Exception:
        return "its message cannot be shown"
    line = printable(" ".join(text.split()))
    is_whole = len(line) <= _LONGEST_MESSAGE
    return line if is_whole else f"{line[:_LONGEST_MESSAGE]}… ({counted(len(text), 'character')})"


def error_in_words(error: BaseException) -> str:
    """The type and the message of an exception, in one line."""
    message = message_of(error)
    return f"{kind_of(error)}: {message}" if message else kind_of(error)


def kind_of(error: BaseException) -> str:
    """The name of an exception's type."""
    return shortened(printable(type(error).__name__))
