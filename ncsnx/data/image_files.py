"""The pictures in a folder or zip by name, read when they are needed.

Folders and zips are untrusted. Entries that could lead out of the folder, into a loop or beyond the memory are refused
by name: zip members with absolute paths, `..` or backslashes, encrypted or duplicate members, links to folders that are
already in the set, and decompression bombs.
"""

import os
import re
import weakref
import zipfile
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import Protocol

import attrs

from ncsnx.config.codec import digest
from ncsnx.data.decoding import SUFFIXES, BrokenImageError
from ncsnx.data.places import fingerprint_of_files
from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted, them
from ncsnx.storage import reading
from ncsnx.storage.zips import MANY, ZIP_MAGIC, open_zip

LARGEST_BYTES = 2**30
"""Larger files aren't read: no picture within Pillow's pixel limit is as large."""
SAMPLED_FILES = 512
"""Number of a folder's files whose bytes count for its fingerprint; names and sizes of all files count."""

_UNPACKED_BYTES, _UNPACKED_RATIO = 64 * 2**20, 200
"""Members that exceed both when unpacked are refused as bombs, although a huge black picture could be one."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others can't be unpacked within a bound
_MOST_NAMED = 20


class _Source(Protocol):
    """A folder or zip."""

    def sizes(self, names: Collection[str]) -> list[int]: ...

    def fingerprint(self, names: tuple[str, ...]) -> str: ...

    def read(self, name: str) -> bytes: ...


@attrs.frozen(eq=False, slots=False)
class ImageFiles:
    """The pictures of a folder or zip. Picklable; each process opens the files itself."""

    root: Path
    names: tuple[str, ...]
    """Paths below the root, with '/' between folders, sorted folder by folder."""
    others: tuple[str, ...]
    """Files with other suffixes, which aren't read, sorted; without hidden files."""
    _source: _Source

    @classmethod
    def open(cls, path: Path, suffixes: tuple[str, ...] = SUFFIXES, what: str = "pictures") -> "ImageFiles":
        """Finds pictures by suffix, in any case. Skips hidden files and folders, and __MACOSX.

        what: the files that the suffixes mean, for messages. Raises NcsnxError if there are none, or if the folder or
        zip can't be read or has entries to refuse.
        """
        try:
            source, found = _source(path, suffixes)
        except OSError as error:
            raise NcsnxError(f"{error.filename or path}: cannot be read: {error.strerror or error}") from error
        ordered = sorted(found, key=lambda name: name.split("/"))
        names = tuple(name for name in ordered if _is_picture(name, suffixes))
        if not names:
            raise NcsnxError(_nothing(path, found, suffixes, what))
        return cls(path, names, tuple(name for name in ordered if not _is_picture(name, suffixes)), source)

    def __len__(self) -> int:
        return len(self.names)

    def read(self, name: str) -> bytes:
        """The bytes of one picture. Raises BrokenImageError if they can't be read."""
        try:
            return self._source.read(name)
        except (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise BrokenImageError(name, f"cannot be read: {getattr(error, 'strerror', None) or error}") from error

    def without(self, names: Collection[str]) -> "ImageFiles":
        """The same pictures without those of these names."""
        left_out = frozenset(names)
        rest = tuple(name for name in self.names if name not in left_out)
        return ImageFiles(self.root, rest, self.others, self._source)

    @cached_property
    def sizes(self) -> list[int]:
        """Unpacked size in bytes of each picture's file. Raises NcsnxError if a file is gone."""
        try:
            return self._source.sizes(self.names)
        except OSError as error:
            raise NcsnxError(f"{error.filename}: cannot be read: {error.strerror}") from error

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hexadecimal) of names, sizes and a sample of the bytes, whatever the path.

        For a folder, the sample is the beginning, middle and end of up to SAMPLED_FILES files, evenly spread; for a
        zip, the CRC-32 of every member. A folder and a zip of it therefore have different fingerprints.
        """
        try:
            return self._source.fingerprint(self.names)
        except OSError as error:
            raise NcsnxError(f"{error.filename}: cannot be read: {error.strerror}") from error


@attrs.frozen
class _Folder:
    root: Path

    def sizes(self, names: Collection[str]) -> list[int]:
        return [(self.root / name).stat().st_size for name in names]

    def fingerprint(self, names: tuple[str, ...]) -> str:
        every = -(-len(names) // SAMPLED_FILES)
        sampled = [self._sample(name) for name in names[::every]]
        return digest([sampled, list(zip(names, self.sizes(names), strict=True))])

    def _sample(self, name: str) -> str:
        try:
            return fingerprint_of_files(self.root, [self.root / name])
        except NcsnxError:
            return "cannot be read"  # the scan names it together with all other broken files

    def read(self, name: str) -> bytes:
        return reading.read_bytes(self.root / name, LARGEST_BYTES)


@attrs.frozen
class _Member:
    stored_name: str
    size: int
    crc: int


@attrs.define(eq=False)
class _Zip:
    path: Path
    members: Mapping[str, _Member]
    _opened: tuple[int, zipfile.ZipFile] | None = None

    def sizes(self, names: Collection[str]) -> list[int]:
        return [self.members[name].size for name in names]

    def fingerprint(self, names: tuple[str, ...]) -> str:
        return digest([[name, self.members[name].size, self.members[name].crc] for name in names])

    def read(self, name: str) -> bytes:
        member = self.members[name]
        with self._archive().open(member.stored_name) as file:
            # bounds what is unpacked, whatever the stream contains
            return file.read(member.size)

    def _archive(self) -> zipfile.ZipFile:
        """The zip, opened in this process: after a fork, parent and child would share one file position."""
        if self._opened is None or self._opened[0] != os.getpid():
            file = reading.opened(self.path)
            weakref.finalize(self, file.close)  # zipfile closes only files that it opened itself
            self._opened = (os.getpid(), open_zip(file, MANY))
        return self._opened[1]

    def __getstate__(self) -> tuple[Path, Mapping[str, _Member]]:
        return self.path, self.members

    def __setstate__(self, state: tuple[Path, Mapping[str, _Member]]) -> None:
        self.path, self.members = state
        self._opened = None


def _source(path: Path, suffixes: tuple[str, ...]) -> tuple[_Source, list[str]]:
    """(source, names of all files that aren't hidden) of a folder or zip."""
    if path.is_dir():
        return _in_folder(path, suffixes)
    if not path.exists():
        raise NcsnxError(f"{path}: expected a folder or a zip of pictures, found nothing")
    if not path.is_file():
        raise NcsnxError(f"{path}: expected a folder or a zip of pictures, found something else")
    with reading.opened(path) as file:
        if not zipfile.is_zipfile(file):
            file.seek(0)
            found = "a truncated zip; get a complete copy" if file.read(2) == ZIP_MAGIC else "another file"
            raise NcsnxError(f"{path}: expected a folder or a zip of pictures, found {found}")
        return _in_zip(path, file, suffixes)


def _in_folder(root: Path, suffixes: tuple[str, ...]) -> tuple[_Folder, list[str]]:
    """Source and names of a folder. Real folders come before linked ones, so that of two the link is refused."""
    seen: set[tuple[int, int]] = set()
    links: list[str] = []
    found = list(_walk(root, "", seen, links))
    refused: dict[str, str] = {}
    while links:
        link = links.pop(0)
        if _place(root / link) in seen:
            refused[link] = f"is a link to {(root / link).resolve()}, which is already in the set"
        else:
            found += _walk(root / link, f"{link}/", seen, links)
    for name, is_file in found:
        if not _is_text(name):
            refused[ascii(name)] = "has a name that is not UTF-8; rename it"
        elif not is_file and _is_picture(name, suffixes):
            refused[name] = "is not a file"
    _refuse(root, refused)
    return _Folder(root), [name for name, _ in found]


def _walk(folder: Path, prefix: str, seen: set[tuple[int, int]], links: list[str]) -> Iterator[tuple[str, bool]]:
    """(prefix + name, is it a file?) of all entries below the folder; links to folders are added to `links`."""
    seen.add(_place(folder))
    with os.scandir(folder) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    for entry in ordered:
        name = prefix + entry.name
        if _is_hidden(entry.name):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), f"{name}/", seen, links)
        elif not entry.is_symlink():
            yield name, entry.is_file()
        elif Path(entry.path).is_dir():
            links.append(name)
        else:
            yield name, Path(entry.path).is_file()


def _is_text(name: str) -> bool:
    return name.isascii() or not any("\ud800" <= character <= "\udfff" for character in name)


def _place(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino


def _in_zip(path: Path, file: BufferedReader, suffixes: tuple[str, ...]) -> tuple[_Zip, list[str]]:
    try:
        with open_zip(file, MANY) as archive:
            listed = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise NcsnxError(f"{path}: this zip cannot be read: {error}") from error
    members: dict[str, _Member] = {}
    refused: dict[str, str] = {}
    for info in listed:
        # zipfile truncates names at a NUL
        stored = info.orig_filename
        reason = unsafe(stored)
        if reason is None:
            name = PurePosixPath(stored).as_posix()
            if info.is_dir() or any(_is_hidden(part) for part in name.split("/")):
                continue
            is_picture = _is_picture(name, suffixes)
            reason = "is in the zip twice" if name in members else _unreadable(info) if is_picture else None
            members[name] = _Member(info.filename, info.file_size, info.CRC)
        if reason is not None:
            refused[stored if stored.isprintable() else ascii(stored)] = reason
    _refuse(path, refused)
    return _Zip(path, members), list(members)


def unsafe(name: str) -> str | None:
    """Why a zip member's name isn't safe (it leads out of the folder, or is ambiguous on some system), or None."""
    if "\0" in name:
        return "has a NUL in its name"
    if "\\" in name:
        return "has a backslash in its name"
    if name.startswith("/") or re.match("[A-Za-z]:", name):
        return "has an absolute path"
    if ".." in name.split("/"):
        return "has a path that leads out of the folder"
    return None


def _unreadable(info: zipfile.ZipInfo) -> str | None:
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


def _is_picture(name: str, suffixes: tuple[str, ...]) -> bool:
    return name.lower().endswith(suffixes)


def _nothing(root: Path, others: Collection[str], suffixes: tuple[str, ...], what: str) -> str:
    counts = Counter(PurePosixPath(name).suffix.lower() or "no suffix" for name in others)
    found = ", ".join(f"{count:,} with {suffix}" for suffix, count in counts.most_common(5))
    return (
        f"{root}: expected {what} ({', '.join(suffixes)}), in subfolders too, found "
        f"{f'only other files ({found})' if found else 'none'}"
    )


def _refuse(root: Path, refused: Mapping[str, str]) -> None:
    if refused:
        listed = "; ".join(f"{name}: {reason}" for name, reason in list(refused.items())[:_MOST_NAMED])
        more = f"; … and {len(refused) - _MOST_NAMED:,} more" if len(refused) > _MOST_NAMED else ""
        entries, advice = counted(len(refused), "entry"), f"fix or remove {them(len(refused))}"
        raise NcsnxError(f"{root}: {entries} cannot be used; {advice}: {listed}{more}")
