"""Reading of files: regular ones only, so that nothing blocks, and within a limit of size."""

import errno
import hashlib
import json
import os
import stat
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted

JSON_LIMIT = 16 * 2**20
"""Size limit, in bytes, of manifests, states, configurations and protocols; the largest have about 100 kB."""
RECORDS_LIMIT = 2**30
"""Size limit, in bytes, of files that grow with a run: metrics, segments, scores."""
ZIP_MAGIC = b"PK"
"""The first bytes of a zip."""
FEW_MEMBERS, MANY_MEMBERS = 2**22, 2**27
"""Limits of a zip's list of members, in bytes: of 40,000 arrays or tensors, and of a million pictures."""
_PIECE_BYTES = 4 * 2**20  # hashed at once

Watch = Callable[[int], object]
"""Called with the number of bytes just read; may raise to stop reading."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns an OSError of the block into an NcsnxError with the path and the reason."""
    try:
        yield
    except OSError as error:
        raise NcsnxError(f"cannot read {error.filename or path}: {error.strerror or error}") from error


def opened(path: Path) -> BufferedReader:
    """The file, open for reading. Raises OSError; ENODEV if it isn't a regular file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # else opening a named pipe would wait forever
    if not stat.S_ISREG(mode := os.fstat(descriptor).st_mode):
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        raise OSError(errno.ENODEV, "is not a regular file")
    return os.fdopen(descriptor, "rb")


def read_bytes(path: Path, limit: int | None = None) -> bytes:
    """The whole content of a regular file. Raises OSError as `opened`; EFBIG for more than `limit` bytes."""
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if limit is not None and size > limit:
            raise OSError(errno.EFBIG, f"it has {counted(size, 'byte')}, and the limit for such files is {limit:,}")
        return file.read() if limit is None else file.read(size)  # which allocates as much before it reads


def read_json(path: Path, limit: int = JSON_LIMIT) -> Any:
    """The JSON value in a file of at most `limit` bytes. Raises OSError as `read_bytes`, and ValueError."""
    return parse_json(read_bytes(path, limit))


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def parse_json(content: bytes) -> Any:
    """The value of a JSON text in UTF-8. Raises ValueError for anything else, such as NaN."""

    try:
        return _DECODER.decode(content.decode("utf-8"))
    except RecursionError:
        raise ValueError("lists and objects are nested too deep") from None


def unwatched(count: int) -> None:
    """The `Watch` that does nothing."""


def sha256(file: BufferedReader, watch: Watch = unwatched) -> str:
    """The sha256 (hexadecimal) of the rest of the file. Raises OSError, and what `watch` raises."""
    hasher = hashlib.sha256()
    while piece := file.read(_PIECE_BYTES):
        hasher.update(piece)
        watch(len(piece))
    return hasher.hexdigest()


def sha256_of(path: Path, watch: Watch = unwatched) -> str:
    """The sha256 (hexadecimal) of a regular file. Raises OSError, and what `watch` raises."""
    with opened(path) as file:
        return sha256(file, watch)


class _Bounded:
    """A file for `zipfile` that raises if more than `most` bytes are read at once."""

    def __init__(self, file: BufferedReader, most: int) -> None:
        self._file, self.most = file, most
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        if size > self.most:
            found = counted(size, "byte")
            raise zipfile.BadZipFile(f"its list of members has {found}, and the limit for such files is {self.most:,}")
        return self._file.read(size)


def open_zip(file: BufferedReader, most: int) -> zipfile.ZipFile:
    """The zip in an open regular file.

    most: limit of the list of members in bytes, since `zipfile` reads it whole. Raises BadZipFile for a longer one,
    which a small sparse file can declare, and whatever `zipfile` raises for damage: OSError, ValueError,
    NotImplementedError and others.
    """
    bounded = _Bounded(file, most)
    archive = zipfile.ZipFile(bounded)
    if any(member.compress_size > os.fstat(file.fileno()).st_size for member in archive.infolist()):
        raise zipfile.BadZipFile("it declares a member that is larger than the file")
    bounded.most = sys.maxsize
    return archive


def require_whole(path: Path, size: int) -> None:
    """Raises NcsnxError if a memory-mapped file is now shorter than the `size` bytes that were mapped.

    Reading the missing part would end the process (SIGBUS). Removing the file is harmless: the mapping keeps its
    content.
    """
    try:
        found = path.stat().st_size
    except FileNotFoundError:
        return
    except OSError as error:
        raise NcsnxError(f"{path}: can no longer be read: {error.strerror}") from error
    if found < size:
        raise NcsnxError(
            f"{path}: has {counted(found, 'byte')} instead of {size:,}: it was truncated or replaced while in use"
        )
