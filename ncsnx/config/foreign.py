"""Running code that other people wrote, in experiment files and installed packages: it can fail in any way at all."""

import contextlib
import sys
from collections.abc import Iterator

from ncsnx.config.checks import printable, shortened
from ncsnx.errors import Stopped
from ncsnx.quantities import counted
from ncsnx.stopping import noticing_signals

_LONGEST_MESSAGE = 400  # characters: a line or two, and all of our own complaints
_LOOKED_AT = 10_000


class ForeignError(Exception):
    """What somebody's code raised; `error` is that exception."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


@contextlib.contextmanager
def foreign_code() -> Iterator[None]:
    """In the block, what is printed goes to standard error, and whatever is raised becomes a ForeignError.

    That includes KeyboardInterrupt and exits, unless a signal has come: then a person wants to end the program.
    """
    with noticing_signals() as has_come:
        try:
            with contextlib.redirect_stdout(sys.stderr):  # stdout is for data
                yield
        except BaseException as error:
            if has_come() and isinstance(error, KeyboardInterrupt | Stopped):
                raise
            raise ForeignError(error) from error


def message_of(error: BaseException) -> str:
    """The message of an exception: one printable line of limited length."""
    try:
        text = str(error)
    except Exception:
        return "its message can't be shown"
    line = printable(" ".join(text[:_LOOKED_AT].split()))
    is_whole = len(text) <= _LOOKED_AT and len(line) <= _LONGEST_MESSAGE
    return line if is_whole else f"{line[:_LONGEST_MESSAGE]}… ({counted(len(text), 'character')})"


def in_words(error: BaseException) -> str:
    """The type and the message of an exception, in one line."""
    message = message_of(error)
    return f"{kind_of(error)}: {message}" if message else kind_of(error)


def kind_of(error: BaseException) -> str:
    """The name of an exception's type."""
    return shortened(printable(type(error).__name__))
