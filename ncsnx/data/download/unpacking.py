"""Unpacking of downloaded archives: the expected files and no others.

Names in an archive never become paths: each expected member is written under a name given by the caller.
"""

import gzip
import math
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted
from ncsnx.storage import atomic
from ncsnx.storage.reading import opened
from ncsnx.storage.zips import MANY, open_zip
from ncsnx.work import Work

_MIB = 2**20


def require_new(folder: Path) -> None:
    """Raises NcsnxError if `folder`, the target of an unpacking, already exists."""
    if folder.exists():
        raise NcsnxError(f"{folder} exists, but lacks files of the data set; remove it, then repeat the command")


def unpack_tar(archive: Path, members: Mapping[str, str], folder: Path, most_bytes: int, work: Work) -> None:
    """Writes members of a .tar.gz into the new `folder`: all of them, or nothing.

    members: name in the archive → file name. most_bytes: size limit of each file. Raises NcsnxError, which names the
    archive, if a member is missing, too large, not a file, or damaged.
    """
    missing = dict(members)
    with atomic.new_folder(folder) as new, _reporting(archive), gzip.open(archive) as stream:
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            for member in tar:
                name = missing.pop(member.name.removeprefix("./"), None)
                if name is None:
                    continue
                source = tar.extractfile(member) if member.isreg() else None
                if source is None or member.size > most_bytes:
                    raise NcsnxError(
                        f"{archive}: {member.name} is not a file of at most {counted(most_bytes, 'byte')}; remove the "
                        "archive, then repeat the command"
                    )
                _copy(source, new / name, member.size, work)
        _require_none(archive, missing)
        while stream.read(_MIB):  # gzip verifies its checksum only at the end
            work.check_stop()


def unpack_zip(archive: Path, members: Mapping[str, str], folder: Path, work: Work) -> None:
    """Writes members of a zip into the new `folder`: all of them, or nothing. Otherwise as `unpack_tar`."""
    with atomic.new_folder(folder) as new, _reporting(archive), opened(archive) as file, open_zip(file, MANY) as packed:
        there = {info.filename: info for info in packed.infolist()}
        _require_none(archive, [member for member in members if member not in there])
        for member, name in members.items():
            with packed.open(there[member]) as source:
                _copy(source, new / name, there[member].file_size, work)


def _copy(source: IO[bytes], path: Path, size: int, work: Work) -> None:
    """Copies `size` bytes into a new file."""
    with atomic.reporting(path, size):
        file = path.open("xb")
    with file, work.progress(f"unpacking {path.name}", total=math.ceil(size / _MIB), unit="MiB") as advance:
        while chunk := source.read(_MIB):
            work.check_stop()
            with atomic.reporting(path, size):
                file.write(chunk)
            advance()
        with atomic.reporting(path, size):
            file.flush()
            os.fsync(file.fileno())


def _require_none(archive: Path, missing: "Mapping[str, str] | list[str]") -> None:
    if missing:
        raise NcsnxError(f"{archive}: lacks {', '.join(missing)}; remove it, then repeat the command")


@contextmanager
def _reporting(archive: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, RuntimeError, ValueError) as error:
        raise NcsnxError(f"{archive}: cannot be unpacked: {error}; remove it, then repeat the command") from error
