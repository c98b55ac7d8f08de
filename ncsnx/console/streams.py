"""Standard streams that are safe to write to after their reader has closed them."""

import contextlib
import errno
import io
import os
from typing import TextIO

# EPIPE: `| head -1` has finished. EIO: the terminal of a background job was closed.
_READER_HAS_LEFT = (errno.EPIPE, errno.EIO)


def takes_no_more(error: OSError) -> str:
    """The message for standard output on a full disk."""
    return f"cannot write to standard output ({error.strerror}); free space and run again"


class Outlet(io.TextIOBase):
    """Standard output or standard error, as it was when this object was created.

    Once its reader is gone, output is dropped without an error, so that a run outlives its terminal. Characters that
    the stream's encoding lacks become backslash escapes.
    """

    def __init__(self, stream: TextIO | None) -> None:
        """stream: None in a process that was started with the descriptor closed."""
        self._stream = stream
        self.is_terminal = stream is not None and stream.isatty()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # typeshed declares a plain attribute
        """The stream's encoding in lower case."""
        return (getattr(self._stream, "encoding", None) or "utf-8").lower()

    @property
    def is_utf8(self) -> bool:
        """Whether the encoding is UTF-8, which has every character."""
        return self.encoding.replace("-", "").replace("_", "") == "utf8"

    def isatty(self) -> bool:
        """Whether the stream is a terminal according to the operating system."""
        return self.is_terminal

    def fileno(self) -> int:
        """The stream's file descriptor. Raises io.UnsupportedOperation if it has none."""
        if self._stream is None:
            raise io.UnsupportedOperation("fileno")
        return self._stream.fileno()

    def write(self, text: str) -> int:
        """Writes and flushes `text`; returns its length. Raises OSError, except if the reader is gone."""
        if self._stream is not None:
            try:
                self._stream.write(self._encodable(text))
                self._stream.flush()
            except OSError as error:
                self._abandon()
                if error.errno not in _READER_HAS_LEFT:
                    raise
        return len(text)

    def _encodable(self, text: str) -> str:
        try:
            text.encode(self.encoding)
        except UnicodeEncodeError:
            return text.encode(self.encoding, "backslashreplace").decode(self.encoding)
        return text

    def _abandon(self) -> None:
        # At exit the interpreter flushes the buffer, which would report the same error again.
        with contextlib.suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            try:
                os.dup2(null, self.fileno())
            finally:
                os.close(null)
        self._stream = None
