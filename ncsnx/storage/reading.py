"""Safe reading of files in an untrusted run: regular files only, no links, and nothing that could block."""

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Literal, TypeVar

import attrs

from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted

JSON_LIMIT = 16 * 2**20
"""Size limit, in bytes, of manifests, states, configurations and protocols; the largest have about 100 kB."""
RECORDS_LIMIT = 2**30
"""Size limit, in bytes, of files that grow with a run: metrics, segments, scores."""
HEADER_LIMIT = 16 * 2**20
"""Size limit, in bytes, of a safetensors header."""
_CHUNK = 4 * 2**20  # bytes hashed at once

T = TypeVar("T")
Watch = Callable[[int], object]
"""Called with the number of bytes just read; may raise to stop reading."""


@attrs.frozen
class Entry:
    """An entry of a folder."""

    path: Path
    kind: Literal["file", "folder", "link", "other"]
    """Kind of the entry itself; links aren't followed."""

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.name


def repeated_if_stale(read: Callable[[], T]) -> T:
    """The result of `read`, which is called again if the file was replaced by another machine meanwhile (NFS)."""
    try:
        return read()
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
        return read()


def open_regular(path: Path, *, follows_links: bool = False) -> BufferedReader:
    """The file, open for reading. Raises OSError; ENODEV if it isn't a regular file, ELOOP for a symbolic link.

    follows_links: allows symbolic links, for files that the user named.
    """
    # without O_NONBLOCK, opening a named pipe would wait forever
    flags = os.O_RDONLY | os.O_NONBLOCK | (0 if follows_links else os.O_NOFOLLOW)
    descriptor = repeated_if_stale(lambda: os.open(path, flags))
    file = os.fdopen(descriptor, "rb")
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.ENODEV, "is not a regular file")
    except OSError:
        file.close()
        raise
    return file


@contextmanager
def opened(path: Path, *, follows_links: bool = False) -> Iterator[BufferedReader]:
    """`open_regular` as a context manager, which closes the file."""
    with open_regular(path, follows_links=follows_links) as file:
        yield file


def read_bytes(path: Path, limit: int | None = None, *, follows_links: bool = False) -> bytes:
    """The whole content of a regular file. Raises OSError as `open_regular`; EFBIG for more than `limit` bytes."""
    return repeated_if_stale(lambda: _read_once(path, limit, follows_links))


def _read_once(path: Path, limit: int | None, follows_links: bool) -> bytes:
    with opened(path, follows_links=follows_links) as file:
        if limit is None:
            return file.read()
        return file.read(_size(file, limit))  # asked for more, Python would allocate as much memory


def read_buffer(path: Path, limit: int) -> bytearray:
    """The whole content of a regular file, in memory that tensors can share. Raises OSError as `read_bytes`."""
    return repeated_if_stale(lambda: _fill_once(path, limit))


def _fill_once(path: Path, limit: int) -> bytearray:
    with opened(path) as file:
        content = bytearray(_size(file, limit))
        del content[file.readinto(content) :]  # shortened meanwhile
        return content


def _size(file: BufferedReader, limit: int) -> int:
    size = os.fstat(file.fileno()).st_size
    if size > limit:
        raise OSError(errno.EFBIG, f"it has {counted(size, 'byte')}, and the limit for such files is {limit:,}")
    return size


def unwatched(count: int) -> None:
    """The `Watch` that does nothing."""


def sha256(file: BufferedReader, watch: Watch = unwatched) -> str:
    """The sha256 (hexadecimal) of the rest of the file. Raises OSError, and what `watch` raises."""
    hasher = hashlib.sha256()
    while piece := file.read(_CHUNK):
        hasher.update(piece)
        watch(len(piece))
    return hasher.hexdigest()


def sha256_of(path: Path, limit: int, watch: Watch = unwatched) -> str:
    """The sha256 (hexadecimal) of a regular file. Raises OSError; EFBIG for more than `limit` bytes."""
    return repeated_if_stale(lambda: _hash_once(path, limit, watch))


def _hash_once(path: Path, limit: int, watch: Watch) -> str:
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise OSError(errno.EFBIG, f"has {counted(size, 'byte')}, and the limit for such files is {limit:,}")
        return sha256(file, watch)


def refuse_links(*paths: Path) -> None:
    """Raises NcsnxError if one of the paths is a symbolic link, so that writes into a run stay inside it."""
    for path in paths:
        if path.is_symlink():
            raise NcsnxError(f"{path} is a symbolic link, which is not followed in a run; remove it")


def entries(folder: Path) -> list[Entry]:
    """The entries of `folder` sorted by name, including hidden ones. Raises OSError; ELOOP if the folder is a link."""
    if folder.is_symlink():
        raise OSError(errno.ELOOP, "is a symbolic link, which is not followed")
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        with os.scandir(descriptor) as found:
            return sorted((Entry(folder / one.name, _kind(one)) for one in found), key=lambda entry: entry.name)
    finally:
        os.close(descriptor)


def _kind(one: "os.DirEntry[str]") -> Literal["file", "folder", "link", "other"]:
    if one.is_symlink():
        return "link"
    if one.is_dir(follow_symlinks=False):
        return "folder"
    return "file" if one.is_file(follow_symlinks=False) else "other"
