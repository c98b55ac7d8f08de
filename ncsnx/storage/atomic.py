"""Durable writes: a file or folder is there whole or not at all, whenever process or machine stops."""

import errno
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted

# see temporary_sibling; earlier versions of ncsnx called what they removed so
_TEMPORARY = re.compile(r"\.(.+)\.(?:tmp|removed)-[0-9]+-[0-9a-f]{8}")
_ADVICE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some of your quota",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EROFS: "choose a folder on a disk that can be written",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.ENOTDIR: "choose another folder",
    errno.ENAMETOOLONG: "choose a shorter name",
}


class HardLinkedError(NcsnxError):
    """A file that isn't appended to, since it has another name, and what is under that one is to stay as it is."""


@contextmanager
def reporting(path: Path, size: int | None = None) -> Iterator[None]:
    """Turns an OSError of the block into a NcsnxError: `path`, the bytes meant to be written, the reason."""
    try:
        yield
    except OSError as error:
        what = str(path) if size is None else f"{path} ({counted(size, 'byte')})"
        if isinstance(error, _HardLinkedOSError):
            raise HardLinkedError(f"cannot write {what}: {error.strerror}") from error
        advice = _ADVICE.get(error.errno or 0, "look into that")
        raise NcsnxError(
            f"cannot write {what}: {error.strerror or error}; {advice}, then repeat the command"
        ) from error


def temporary_sibling(path: Path) -> Path:
    """A hidden name beside `path` that no other process or thread uses: `.NAME.tmp-PID-TOKEN`."""
    return path.with_name(f".{path.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")


def is_temporary(name: str, of: str | None = None) -> bool:
    """Whether this is the name of something half written: of whatever it may be, or of what is called `of`."""
    whole = whole_name(name)
    return whole is not None and of in (None, whole)


def whole_name(name: str) -> str | None:
    """What something half written is to be called once it is whole; None for what has no such name."""
    match = _TEMPORARY.fullmatch(name)
    return None if match is None else match[1]


def debris(folder: Path) -> list[Path]:
    """What writers that were killed left half written in `folder`; what is being written now looks the same."""
    return [entry for entry in sorted(folder.iterdir()) if is_temporary(entry.name)]


def sync_folder(folder: Path) -> None:
    """Makes what was made, renamed or removed in `folder` survive a power cut. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # some network file systems can't sync folders, and order these operations themselves
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def write_new(path: Path, content: bytes, shown: Path | None = None) -> None:
    """Writes a file that doesn't exist yet, and syncs it. Errors name `shown`, the place it is meant for."""
    with reporting(shown or path, len(content)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            _write_all(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_bytes(path: Path, content: bytes) -> None:
    """Replaces `path` by `content`: readers see the old file or the new one. Raises NcsnxError."""
    temporary = temporary_sibling(path)
    try:
        write_new(temporary, content, shown=path)
        with reporting(path, len(content)):
            temporary.replace(path)
            sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def json_bytes(value: Any) -> bytes:
    """JSON for people: indented, plain ASCII (so that any text survives), ending in a newline.

    Raises ValueError for NaN and infinities.
    """
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode("ascii")


def write_json(path: Path, value: Any) -> None:
    """Replaces `path` by the indented JSON of `value`. Raises NcsnxError, and ValueError for NaN."""
    write_bytes(path, json_bytes(value))


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary sibling folder to fill, which becomes `path` when the block ends well.

    Files must be synced by who writes them. If the block fails, nothing is left. Raises NcsnxError where the
    system refuses, also if `path` has come into being meanwhile.
    """
    temporary = temporary_sibling(path)
    try:
        with reporting(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.mkdir()
        yield temporary
        with reporting(path):
            sync_folder(temporary)
            temporary.rename(path)
            sync_folder(path.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def check_place(path: Path) -> None:
    """Whether a new file or folder could be made at `path`, as far as can be told without making it.

    Raises NcsnxError as `new_folder` would: for a name that is too long, a file in the place of a folder, a folder that
    can't be written to.
    """
    with reporting(path):
        with suppress(FileNotFoundError, NotADirectoryError):
            temporary_sibling(path).lstat()  # whose name is the longest
        parent = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
        if not parent.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{parent} is not a folder")
        if not os.access(parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def append(path: Path, content: bytes) -> None:
    """Appends `content`, which isn't synced; makes the file if need be. Raises OSError, leaving the file as it was."""
    descriptor = _open_to_append(path)
    try:
        _extend(descriptor, os.fstat(descriptor).st_size, content)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Brings to the disk what was appended to a file. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def append_line(path: Path, line: str) -> None:
    """Appends `line` (without line breaks) and syncs it; makes the file if need be. Raises NcsnxError.

    A line counts once its newline is there: what a killed process left behind without one is cut off first,
    and a line that doesn't fit on the disk leaves the file as it was.
    """
    content = (line + "\n").encode("utf-8")
    with reporting(path, len(content)):
        descriptor = _open_to_append(path)
        try:
            start = _end_of_lines(descriptor)
            os.ftruncate(descriptor, start)
            _extend(descriptor, start, content, sync=True)
        finally:
            os.close(descriptor)
        if start == 0:
            sync_folder(path.parent)


class _HardLinkedOSError(OSError):
    """See HardLinkedError."""


def _open_to_append(path: Path) -> int:
    # in somebody's run, a file may be a symbolic link, which leads elsewhere, or a pipe, which waits for a reader
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and found.st_nlink <= 1:
        return descriptor
    os.close(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.ENODEV, "is not a regular file")
    raise _HardLinkedOSError(errno.EMLINK, f"it has {counted(found.st_nlink, 'name')} (hard links)")


def _extend(descriptor: int, start: int, content: bytes, sync: bool = False) -> None:
    """Writes `content` at `start`, the file's end, or nothing of it."""
    os.lseek(descriptor, start, os.SEEK_SET)
    try:
        _write_all(descriptor, content)
        if sync:
            os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, start)
        raise


def _write_all(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _end_of_lines(descriptor: int) -> int:
    size = os.fstat(descriptor).st_size
    if size == 0 or os.pread(descriptor, 1, size - 1) == b"\n":
        return size
    return os.pread(descriptor, size, 0).rfind(b"\n") + 1
