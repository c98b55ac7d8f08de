"""The pictures in a folder or zip by name, read when they are needed.

Folders and zips are untrusted. Entries that could lead out of the folder, into a loop or beyond the memory are refused:
links to folders that are already in the set, and by name zip members with absolute paths, `..` or backslashes,
encrypted or duplicate members, and decompression bombs.
"""

import os
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import attrs

from ncsnx import bounded_reads
from ncsnx.config.codec import digest
from ncsnx.data.decoding import SUFFIXES, BrokenImageError
from ncsnx.data.places import fingerprint_of_files
from ncsnx.errors import NcsnxError, UsageError
from ncsnx.quantities import counted

LARGEST_BYTES = 2**30
"""Larger files aren't read: no picture within Pillow's pixel limit is as large."""
SAMPLED_FILES = 512
"""Number of a folder's files whose bytes count for its fingerprint; names and sizes of all files count."""

_UNPACKED_BYTES, _UNPACKED_RATIO = 64 * 2**20, 200
"""Members that exceed both when unpacked are refused as bombs, although a huge black picture could be one."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others can't be unpacked within a bound


@attrs.define(eq=False, slots=False)
class ImageFiles:
    """The pictures of a folder or zip. Picklable; each process opens the files itself."""

    root: Path
    names: tuple[str, ...]
    """Paths below the root, with '/' between folders, sorted folder by folder."""
    others: tuple[str, ...]
    """Files with other suffixes, which aren't read, sorted; without hidden files."""
    _members: Mapping[str, zipfile.ZipInfo] | None
    """The members of a zip by name; None for a folder."""
    _opened: tuple[int, zipfile.ZipFile] | None = attrs.field(default=None, init=False)
    """The number of a process, and the zip as it was opened there."""

    @staticmethod
    def open(path: Path, suffixes: tuple[str, ...] = SUFFIXES, what: str = "pictures") -> "ImageFiles":
        """Finds pictures by suffix, in any case. Skips hidden files and folders, and __MACOSX.

        what: the files, for messages. Raises NcsnxError if there are none, or for a folder or zip that is refused.
        """
        with bounded_reads.reading(path):
            members = None if path.is_dir() else _members(path, suffixes)
            listed = _names_in_folder(path) if members is None else members
        ordered = sorted(listed, key=lambda name: name.split("/"))
        names = tuple(name for name in ordered if name.lower().endswith(suffixes))
        others = tuple(name for name in ordered if not name.lower().endswith(suffixes))
        if not names:
            counts = Counter(PurePosixPath(name).suffix.lower() or "no suffix" for name in others).most_common(5)
            found = ", ".join(f"{count:,} with {suffix}" for suffix, count in counts)
            raise NcsnxError(
                f"{path}: expected {what} ({', '.join(suffixes)}), in subfolders too, found "
                f"{f'only other files ({found})' if found else 'none'}"
            )
        return ImageFiles(path, names, others, members)

    def __len__(self) -> int:
        return len(self.names)

    def read(self, name: str) -> bytes:
        """The bytes of one picture. Raises BrokenImageError if they can't be read."""
        try:
            if self._members is None:
                return bounded_reads.read_bytes(self.root / name, LARGEST_BYTES)
            member = self._members[name]
            with self._zip().open(member.filename) as file:
                # bounds what is unpacked, whatever the stream contains
                return file.read(member.file_size)
        except (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            reason = getattr(error, "strerror", None) or error
            raise BrokenImageError(f"{self.root}: {name}", f"cannot be read: {reason}") from error

    def without(self, names: Collection[str]) -> "ImageFiles":
        """The same pictures without those of these names."""
        left_out = frozenset(names)
        return attrs.evolve(self, names=tuple(name for name in self.names if name not in left_out))

    @cached_property
    def sizes(self) -> list[int]:
        """Unpacked size in bytes of each picture's file. Raises NcsnxError if a file is gone."""
        if self._members is not None:
            return [self._members[name].file_size for name in self.names]
        with bounded_reads.reading(self.root):
            return [(self.root / name).stat().st_size for name in self.names]

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hexadecimal) of names, sizes and a sample of the bytes, whatever the path. Raises as `sizes`.

        For a folder, the sample is the beginning, middle and end of up to SAMPLED_FILES files, evenly spread; for a
        zip, the CRC-32 of every member. A folder and a zip of it therefore have different fingerprints.
        """
        if self._members is not None:
            return digest([[name, self._members[name].file_size, self._members[name].CRC] for name in self.names])
        sampled = [self._sample(name) for name in self.names[:: -(-len(self.names) // SAMPLED_FILES)]]
        return digest([sampled, list(zip(self.names, self.sizes, strict=True))])

    def _sample(self, name: str) -> str:
        try:
            return fingerprint_of_files(self.root, [self.root / name])
        except NcsnxError:
            return "cannot be read"  # the scan names it together with all other broken files

    def _zip(self) -> zipfile.ZipFile:
        """The zip, opened in this process: after a fork, parent and child would share one file position."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), zipfile.ZipFile(self.root)  # its list of members has been bounded
        return self._opened[1]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": None}


def _names_in_folder(root: Path) -> list[str]:
    """Names of all files that aren't hidden, also through links. Raises NcsnxError for a folder met twice."""
    names: list[str] = []
    seen: dict[tuple[int, int], str] = {}
    for folder, folders, files in os.walk(root, onerror=_raise, followlinks=True):
        status = Path(folder).stat()
        first = seen.setdefault((status.st_dev, status.st_ino), folder)
        if first != folder:
            raise NcsnxError(f"{root}: {folder} and {first} are the same folder; remove the link")
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        below = Path(folder).relative_to(root)
        names += [(below / name).as_posix() for name in files if not _is_hidden(name)]
    if odd := next((name for name in names if re.search("[\ud800-\udfff]", name)), None):
        raise NcsnxError(f"{root}: {odd!a} has a name that is not UTF-8; rename it")
    return names


def _raise(error: OSError) -> None:
    raise error


def _members(path: Path, suffixes: tuple[str, ...]) -> dict[str, zipfile.ZipInfo]:
    """The members of a zip by name, without hidden ones. Raises NcsnxError, and OSError if it can't be read."""
    if not path.exists():
        raise NcsnxError(f"{path}: expected a folder or a zip of pictures, found nothing")
    with bounded_reads.opened(path) as file:
        try:
            with bounded_reads.open_zip(file, bounded_reads.MANY_MEMBERS) as archive:
                listed = archive.infolist()
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            file.seek(0)
            expected = f"{path}: expected a folder or a zip of pictures"
            if file.read(2) != bounded_reads.ZIP_MAGIC:
                found = "one picture" if path.suffix.lower() in suffixes else "another file"
                raise UsageError(f"{expected}, or a file of arrays such as .npy, found {found}") from error
            raise NcsnxError(f"{expected}, found a zip that cannot be read: {error}") from error
    members: dict[str, zipfile.ZipInfo] = {}
    for info in listed:
        stored = info.orig_filename  # zipfile truncates names at a NUL
        name = PurePosixPath(stored).as_posix()
        reason = None
        if is_unsafe(stored):
            reason = "has an absolute path, or one with .., a backslash or a NUL"
        elif not info.is_dir() and not any(map(_is_hidden, name.split("/"))):
            reason = "is in the zip twice" if name in members else _unreadable(info, suffixes)
            members[name] = info
        if reason is not None:
            shown = stored if stored.isprintable() else ascii(stored)
            raise NcsnxError(f"{path}: {shown} {reason}, so the zip is not used; fix or remove it")
    return members


def is_unsafe(name: str) -> bool:
    """Whether a zip member's name leads out of the folder, or means different files on different systems."""
    is_absolute = name.startswith("/") or re.match("[A-Za-z]:", name) is not None
    return is_absolute or ".." in name.split("/") or "\\" in name or "\0" in name


def _unreadable(info: zipfile.ZipInfo, suffixes: tuple[str, ...]) -> str | None:
    if not info.filename.lower().endswith(suffixes):
        return None
    if info.flag_bits & 0x1:
        return "is encrypted"
    if info.compress_type not in _METHODS:
        return "is compressed with another method than deflate"
    if info.file_size > LARGEST_BYTES or (
        info.file_size > _UNPACKED_BYTES and info.file_size > _UNPACKED_RATIO * info.compress_size
    ):
        return f"would unpack from {info.compress_size:,} to {counted(info.file_size, 'byte')}"
    return None


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"
