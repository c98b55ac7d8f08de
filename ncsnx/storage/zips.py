"""Zips that anybody may have made: `zipfile` reads the list of their members whole, so its length is bounded here."""

import os
import zipfile
from io import BufferedReader
from pathlib import Path

from ncsnx.quantities import counted
from ncsnx.storage.reading import opened

ZIP_MAGIC = b"PK"
"""The first bytes of a zip."""
FEW = 2**22
"""Bytes of a list of 40,000 members, which no file of arrays or tensors has."""
MANY = 2**27
"""Bytes of a list of a million members, which a zip of pictures may have."""
_MEMBER, _MEMBER_BYTES = b"PK\x01\x02", 100
"""What a member in the list begins with, and how many bytes it usually takes there; 47 are the least."""


def open_zip(file: BufferedReader, most: int) -> zipfile.ZipFile:
    """The zip in an open regular file.

    most: bytes of its list of members, and a member for every 100 of them, since each takes some 700 in memory. Raises
    BadZipFile for a longer list, which a small sparse file can declare, and whatever `zipfile` raises for damage:
    OSError, ValueError, NotImplementedError and others.
    """
    bounded = _Bounded(file, most)
    archive = zipfile.ZipFile(bounded)
    bounded.most = None  # the list has been read; members are read by as much as a reader asks for
    return archive


def is_zip(path: Path) -> bool:
    """Whether a regular file ends as a zip does; False also for what can't be read."""
    try:
        with opened(path, follows_links=True) as file:
            return zipfile.is_zipfile(file)
    except OSError:
        return False


class _Bounded:
    """A file for `zipfile` that gives up where more than `most` bytes, or too many members, are read at once."""

    def __init__(self, file: BufferedReader, most: int) -> None:
        self._file = file
        self.most: int | None = most
        self.size = os.fstat(file.fileno()).st_size
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        left = max(0, self.size - self.tell())
        wanted = left if size < 0 else min(size, left)  # asked for more, Python would take as much memory
        if self.most is None:
            return self._file.read(wanted)
        if wanted > self.most:
            raise _too_long(counted(wanted, "byte"), self.most)
        found = self._file.read(wanted)
        # counted, since `zipfile` reads all that there are, whatever number the end of the zip declares
        if (members := found.count(_MEMBER)) > self.most // _MEMBER_BYTES:
            raise _too_long(counted(members, "entry"), self.most // _MEMBER_BYTES)
        return found


def _too_long(found: str, most: int) -> zipfile.BadZipFile:
    return zipfile.BadZipFile(f"its list of members has {found}, and no such file has over {most:,}")
