"""The pictures in a folder or a zip, by name: found, but not read before they are asked for.

Files come from others. What could lead out of the folder, round in circles or beyond the memory is refused by name:
zip members with absolute paths, `..` or backslashes, encrypted or doubled ones, links to folders that are in the set
already, and members that unpack to far more than they are.
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

from ncsnx.config.canonical import digest
from ncsnx.data import fingerprint
from ncsnx.data.pictures.decoding import SUFFIXES, BrokenImageError
from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted, them
from ncsnx.storage import reading
from ncsnx.storage.zips import MANY, ZIP_MAGIC, open_zip

LARGEST_BYTES = 2**30
"""A larger file isn't read: no picture within Pillow's limit of pixels needs as much."""
SAMPLED_FILES = 512
"""Files of a folder whose bytes are looked at for its fingerprint; names and sizes are those of all."""

_UNPACKED_BYTES, _UNPACKED_RATIO = 64 * 2**20, 200
"""A member that is larger unpacked, and by a larger factor, is a bomb: a black picture of that size could be that, but
isn't worth the risk."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others can't be unpacked within a bound
_MOST_NAMED = 20


class _Source(Protocol):
    """Where pictures come from."""

    def sizes(self, names: Collection[str]) -> list[int]: ...

    def fingerprint(self, names: tuple[str, ...]) -> str: ...

    def read(self, name: str) -> bytes: ...


@attrs.frozen(eq=False, slots=False)
class ImageFiles:
    """The pictures of a folder or a zip. May be sent to another process, which opens the files for itself."""

    root: Path
    names: tuple[str, ...]
    """Paths below the root, with '/' between folders, sorted so that what a folder holds stays together."""
    others: tuple[str, ...]
    """Files that aren't read, by their suffixes, sorted; hidden ones aren't among them."""
    _source: _Source

    @classmethod
    def open(cls, path: Path, suffixes: tuple[str, ...] = SUFFIXES) -> "ImageFiles":
        """Finds the pictures by their suffixes, in any case; hidden files and folders and __MACOSX are passed over.

        Raises NcsnxError where there is none, and for a folder or zip that can't be read or holds what is refused.
        """
        try:
            source, found = _source(path, suffixes)
        except OSError as error:
            raise NcsnxError(f"{error.filename or path}: cannot be read: {error.strerror or error}") from error
        ordered = sorted(found, key=lambda name: name.split("/"))
        names = tuple(name for name in ordered if _is_picture(name, suffixes))
        if not names:
            raise NcsnxError(_nothing(path, found, suffixes))
        return cls(path, names, tuple(name for name in ordered if not _is_picture(name, suffixes)), source)

    def __len__(self) -> int:
        return len(self.names)

    def read(self, name: str) -> bytes:
        """The bytes of one picture. Raises BrokenImageError where they can't be had."""
        try:
            return self._source.read(name)
        except (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise BrokenImageError(name, f"cannot be read: {getattr(error, 'strerror', None) or error}") from error

    def without(self, names: Collection[str]) -> "ImageFiles":
        """The same pictures but those."""
        left_out = frozenset(names)
        rest = tuple(name for name in self.names if name not in left_out)
        return ImageFiles(self.root, rest, self.others, self._source)

    @cached_property
    def sizes(self) -> list[int]:
        """Bytes of each picture's file, unpacked. Raises NcsnxError where a file is gone."""
        try:
            return self._source.sizes(self.names)
        except OSError as error:
            raise NcsnxError(f"{error.filename}: cannot be read: {error.strerror}") from error

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hexadecimal) of names, sizes and a sample of the bytes; the place isn't in it.

        Of a folder the sample is the beginning, middle and end of up to SAMPLED_FILES files, evenly spread; of a zip it
        is the CRC-32 of every member. So a folder and a zip of it have different fingerprints.
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
            return fingerprint.of_files(self.root, [self.root / name])
        except NcsnxError:
            return "cannot be read"  # the scan will name it, together with all others

    def read(self, name: str) -> bytes:
        return reading.read_bytes(self.root / name, LARGEST_BYTES, follows_links=True)


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
            # the number bounds what is unpacked, whatever the stream would give
            return file.read(member.size)

    def _archive(self) -> zipfile.ZipFile:
        """The zip, opened by this process: after a fork, parent and child would move one place in the file."""
        if self._opened is None or self._opened[0] != os.getpid():
            file = reading.open_regular(self.path, follows_links=True)
            weakref.finalize(self, file.close)  # zipfile closes what it has opened itself
            self._opened = (os.getpid(), open_zip(file, MANY))
        return self._opened[1]

    def __getstate__(self) -> tuple[Path, Mapping[str, _Member]]:
        return self.path, self.members

    def __setstate__(self, state: tuple[Path, Mapping[str, _Member]]) -> None:
        self.path, self.members = state
        self._opened = None


def _source(path: Path, suffixes: tuple[str, ...]) -> tuple[_Source, list[str]]:
    """What reads the files of a folder or a zip, and the names of all that aren't hidden."""
    if path.is_dir():
        return _in_folder(path, suffixes)
    if not path.exists():
        raise NcsnxError(f"{path}: expected a folder or a zip of pictures, found nothing")
    if not path.is_file():
        raise NcsnxError(f"{path}: expected a folder or a zip of pictures, found what is not a regular file")
    with reading.opened(path, follows_links=True) as file:
        if not zipfile.is_zipfile(file):
            file.seek(0)
            found = "a zip that is cut off; get it again" if file.read(2) == ZIP_MAGIC else "a file that is neither"
            raise NcsnxError(f"{path}: expected a folder or a zip of pictures, found {found}")
        return _in_zip(path, file, suffixes)


def _in_folder(root: Path, suffixes: tuple[str, ...]) -> tuple[_Folder, list[str]]:
    """Folders that are really there come first, then what links lead to, so that it is the link that is refused."""
    seen: set[tuple[int, int]] = set()
    links: list[str] = []
    found = list(_walk(root, "", seen, links))
    refused: dict[str, str] = {}
    while links:
        link = links.pop(0)
        if _place(root / link) in seen:
            refused[link] = f"is a link to {(root / link).resolve()}, which is in the set already"
        else:
            found += _walk(root / link, f"{link}/", seen, links)
    for name, is_file in found:
        if not _is_text(name):
            refused[ascii(name)] = "rename it: its name is not UTF-8"
        elif not is_file and _is_picture(name, suffixes):
            refused[name] = "is not a file"
    _refuse(root, refused)
    return _Folder(root), [name for name, _ in found]


def _walk(folder: Path, prefix: str, seen: set[tuple[int, int]], links: list[str]) -> Iterator[tuple[str, bool]]:
    """The name, after `prefix`, of everything below the folder, and whether it is a file; links to folders go to
    `links`."""
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
        # zipfile itself cuts names off at a NUL
        stored = info.orig_filename
        reason = unsafe(stored)
        if reason is None:
            name = PurePosixPath(stored).as_posix()
            if info.is_dir() or any(_is_hidden(part) for part in name.split("/")):
                continue
            is_picture = _is_picture(name, suffixes)
            reason = "is there twice" if name in members else _unreadable(info) if is_picture else None
            members[name] = _Member(info.filename, info.file_size, info.CRC)
        if reason is not None:
            refused[stored if stored.isprintable() else ascii(stored)] = reason
    _refuse(path, refused)
    return _Zip(path, members), list(members)


def unsafe(name: str) -> str | None:
    """Why a zip member's name could lead out of the folder, or not to one file on every system; None where it can't."""
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
        return "is compressed by another method than deflate"
    if info.file_size > LARGEST_BYTES or (
        info.file_size > _UNPACKED_BYTES and info.file_size > _UNPACKED_RATIO * info.compress_size
    ):
        return f"would unpack from {info.compress_size:,} to {counted(info.file_size, 'byte')}"
    return None


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _is_picture(name: str, suffixes: tuple[str, ...]) -> bool:
    return name.lower().endswith(suffixes)


def _nothing(root: Path, others: Collection[str], suffixes: tuple[str, ...]) -> str:
    counts = Counter(PurePosixPath(name).suffix.lower() or "no suffix" for name in others)
    found = ", ".join(f"{count:,} with {suffix}" for suffix, count in counts.most_common(5))
    return (
        f"{root}: expected images ({', '.join(suffixes)}) in it or in folders below it, found "
        f"{f'only other files ({found})' if found else 'none'}"
    )


def _refuse(root: Path, refused: Mapping[str, str]) -> None:
    if refused:
        listed = "; ".join(f"{name}: {reason}" for name, reason in list(refused.items())[:_MOST_NAMED])
        more = f"; … and {len(refused) - _MOST_NAMED:,} more" if len(refused) > _MOST_NAMED else ""
        entries, advice = counted(len(refused), "entry"), f"fix or remove {them(len(refused))}"
        raise NcsnxError(f"{root}: {entries} cannot be used; {advice}: {listed}{more}")
