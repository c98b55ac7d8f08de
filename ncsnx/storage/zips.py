"""Safe opening of untrusted zips: `zipfile` reads the whole central directory, so its size is limited here."""

import os
import zipfile
from io import BufferedReader
from pathlib import Path

from ncsnx.quantities import counted
from ncsnx.reading import opened

ZIP_MAGIC = b"PK"
"""The first bytes of a zip."""
FEW = 2**22
"""Limit for files of arrays or tensors: bytes of the central directory of 40,000 members."""
MANY = 2**27
"""Limit for zips of pictures: bytes of the central directory of a million members."""


def open_zip(file: BufferedReader, most: int) -> zipfile.ZipFile:
    """The zip in an open regular file.

    most: limit of the central directory in bytes. Raises BadZipFile for a longer one, which a small sparse file can
    declare, and whatever `zipfile` raises for damage: OSError, ValueError, NotImplementedError and others.
    """
    bounded = _Bounded(file, most)
    archive = zipfile.ZipFile(bounded)
    bounded.most = None  # the central directory has been read; members may be larger
    return archive


def is_zip(path: Path) -> bool:
    """Whether a regular file has the end record of a zip; False also if it can't be read."""
    try:
        with opened(path) as file:
            return zipfile.is_zipfile(file)
    except OSError:
        return False


class _Bounded:
    """A file for `zipfile` that raises if more than `most` bytes are read at once."""

    def __init__(self, file: BufferedReader, most: int) -> None:
        self._file = file
        self.most: int | None = most
        self.size = os.fstat(file.fileno()).st_size
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        left = max(0, self.size - self.tell())
        wanted = left if size < 0 else min(size, left)  # asked for more, Python would allocate as much memory
        if self.most is not None and wanted > self.most:
            limit = f"the limit for such files is {self.most:,}"
            raise zipfile.BadZipFile(f"its list of members has {counted(wanted, 'byte')}, and {limit}")
        return self._file.read(wanted)
