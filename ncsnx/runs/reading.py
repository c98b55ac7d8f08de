"""Reading files of a run that somebody else may have made: regular files only, no links, nothing that could wait."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """The file, open for reading. Raises OSError; ELOOP for a symbolic link, ENODEV for what isn't a regular file."""
    # without O_NONBLOCK a named pipe in the file's place would wait for ever
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.ENODEV, "isn't a regular file")
        yield file


def read_bytes(path: Path) -> bytes:
    """The whole content of a regular file. Raises OSError."""
    with opened(path) as file:
        return file.read()
