"""Running code that other people wrote, in experiment files and installed packages: it can fail in any way at all."""

import contextlib
import sys
from collections.abc import Iterator

from ncsnx.config.checks import printable, shortened
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

    That includes KeyboardInterrupt and exits. What a signal raises isn't the code's: it leaves the block as it is,
    whatever the code made of it, since a person wants to end the program.
    """
    with noticing_signals() as raised_by_signal:
        try:
            with contextlib.redirect_stdout(sys.stderr):  # stdout is for data
                yield
        except BaseException as error:
            if raised_by_signal() is None:
                raise ForeignError(error) from error
        if (ending := raised_by_signal()) is not None:
            raise ending from None


def message_of(error: BaseException) -> str:
    """The message of an exception: one printable line of limited length."""
    try:
        text = str(error)
    except Exception:
        return "its message cannot be shown"
    line = printable(" ".join(text[:_LOOKED_AT].split()))
    is_whole = len(text) <= _LOOKED_AT and len(line) <= _LONGEST_MESSAGE
    return line if is_whole else f"{line[:_LONGEST_MESSAGE]}… ({counted(len(text), 'character')})"


def error_in_words(error: BaseException) -> str:
    """The type and the message of an exception, in one line."""
    message = message_of(error)
    return f"{kind_of(error)}: {message}" if message else kind_of(error)


def kind_of(error: BaseException) -> str:
    """The name of an exception's type."""
    return shortened(printable(type(error).__name__))
