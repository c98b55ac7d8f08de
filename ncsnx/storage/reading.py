"""Reading files of a run that somebody else may have made: regular files only, no links, nothing that could wait."""

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Literal

import attrs

from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted

JSON_LIMIT = 16 * 2**20
"""Bytes that a manifest, a state, a configuration or a protocol has at the most; the largest have some 100 kB."""
RECORDS_LIMIT = 2**30
"""Bytes that files which grow with a run have at the most: metrics, segments, scores."""
HEADER_LIMIT = 16 * 2**20
"""Bytes that a safetensors file of samples has beside their values, at the most."""
_CHUNK = 4 * 2**20  # bytes hashed at once

Watch = Callable[[int], object]
"""Told of so many bytes more that were read; ends the reading by raising."""


@attrs.frozen
class Entry:
    """Something that lies in a folder."""

    path: Path
    kind: Literal["file", "folder", "link", "other"]
    """Of the thing itself: what a link leads to isn't looked at."""

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.name


def open_regular(path: Path, *, follows_links: bool = False) -> BufferedReader:
    """The file, open for reading. Raises OSError; ENODEV for what isn't a regular file, ELOOP for a symbolic link.

    follows_links: for a file that a person named himself.
    """
    # without O_NONBLOCK a named pipe in the file's place would wait for ever
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | (0 if follows_links else os.O_NOFOLLOW))
    file = os.fdopen(descriptor, "rb")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise OSError(errno.ENODEV, "is not a regular file")
    return file


@contextmanager
def opened(path: Path, *, follows_links: bool = False) -> Iterator[BufferedReader]:
    """`open_regular` for a block, at the end of which the file is closed."""
    with open_regular(path, follows_links=follows_links) as file:
        yield file


def read_bytes(path: Path, limit: int | None = None, *, follows_links: bool = False) -> bytes:
    """The whole content of a regular file. Raises OSError, EFBIG for a file of more than `limit` bytes.

    follows_links: as of `opened`.
    """
    with opened(path, follows_links=follows_links) as file:
        if limit is None:
            return file.read()
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise OSError(errno.EFBIG, f"it has {counted(size, 'byte')}, and no such file has over {limit:,}")
        return file.read(size)  # asked for more, Python would take as much memory


def unwatched(count: int) -> None:
    """A reading that nobody watches."""


def sha256(file: BufferedReader, watch: Watch = unwatched) -> str:
    """Of what is left of the file, in hexadecimal. Raises OSError, and what `watch` raises."""
    hasher = hashlib.sha256()
    while piece := file.read(_CHUNK):
        hasher.update(piece)
        watch(len(piece))
    return hasher.hexdigest()


def sha256_of(path: Path, limit: int, watch: Watch = unwatched) -> str:
    """Of a regular file, in hexadecimal. Raises OSError, EFBIG for a file of more than `limit` bytes."""
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise OSError(errno.EFBIG, f"has {counted(size, 'byte')}, and no such file has over {limit:,}")
        return sha256(file, watch)


def refuse_links(*paths: Path) -> None:
    """Raises NcsnxError if one of the paths is a symbolic link: what is written into a run stays in it."""
    for path in paths:
        if path.is_symlink():
            raise NcsnxError(f"{path} is a symbolic link, and those are not followed in a run; remove it")


def entries(folder: Path) -> list[Entry]:
    """What lies in `folder`, by name, hidden things included. Raises OSError; ELOOP where the folder is a link."""
    if folder.is_symlink():
        raise OSError(errno.ELOOP, "is a symbolic link, and those are not followed")
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
