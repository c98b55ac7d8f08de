"""Durable atomic writes: files and folders are complete or absent, whenever the process or machine stops."""

import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted

# see temporary_sibling
_TEMPORARY = re.compile(r"\.(.+)\.tmp-[0-9]+-[0-9a-f]{8}")
_UNSYNCED = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}
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


@contextmanager
def reporting(path: Path, size: int | None = None) -> Iterator[None]:
    """Turns an OSError of the block into an NcsnxError with `path`, `size` (bytes to write) and the reason."""
    try:
        yield
    except OSError as error:
        what = str(path) if size is None else f"{path} ({counted(size, 'byte')})"
        advice = _ADVICE.get(error.errno or 0, "fix the cause")
        raise NcsnxError(
            f"cannot write {what}: {error.strerror or error}; {advice}, then repeat the command"
        ) from error


def temporary_sibling(path: Path) -> Path:
    """A unique hidden name beside `path`: `.NAME.tmp-PID-TOKEN`."""
    return path.with_name(f".{path.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")


def is_temporary(name: str) -> bool:
    """Whether `name` is a temporary name of any file or folder."""
    return whole_name(name) is not None


def whole_name(name: str) -> str | None:
    """The final name of a file or folder with the temporary name `name`; None for other names."""
    match = _TEMPORARY.fullmatch(name)
    return None if match is None else match[1]


def debris(folder: Path) -> list[Path]:
    """Unfinished files and folders in `folder`, left by killed writers or being written now."""
    return [path for path in sorted(folder.iterdir()) if is_temporary(path.name)] if folder.is_dir() else []


def remove_tree(folder: Path) -> None:
    """Removes a folder and all that it holds; its name is free at once. Raises OSError."""
    gone = folder if is_temporary(folder.name) else temporary_sibling(folder)
    if gone != folder:
        folder.rename(gone)
    shutil.rmtree(gone)


def sync_folder(folder: Path) -> None:
    """Makes creations, renames and removals in `folder` survive a power cut. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # some network file systems can't sync folders, and order these operations themselves
        if error.errno not in _UNSYNCED:
            raise
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> Path:
    """Makes a folder if it doesn't exist, and those above it; returns its path. Raises NcsnxError."""
    with reporting(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def write_new(path: Path, content: bytes, shown: Path | None = None) -> None:
    """Writes and syncs a new file. shown: the path that errors name, by default `path`. Raises NcsnxError."""
    write_pieces(path, [content], len(content), shown)


def write_pieces(path: Path, pieces: Iterable[bytes | memoryview], size: int, shown: Path | None = None) -> None:
    """Like `write_new`, with the content in pieces, of `size` bytes together."""
    with reporting(shown or path, size):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            for piece in pieces:
                _write_all(descriptor, piece)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_bytes(path: Path, content: bytes) -> None:
    """Replaces the file at `path`: readers see either the old or the new content. Raises NcsnxError."""
    with replacing(path, len(content)) as temporary:
        write_new(temporary, content, shown=path)


@contextmanager
def replacing(path: Path, size: int | None = None) -> Iterator[Path]:
    """A temporary name, whose file replaces the one at `path` at the end of the block, or is removed by an error.

    size: as in `reporting`. Raises NcsnxError if the file can't get its name.
    """
    temporary = temporary_sibling(path)
    try:
        yield temporary
        with reporting(path, size):
            temporary.replace(path)
            sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def json_bytes(value: Any) -> bytes:
    """Readable JSON: indented, plain ASCII, with a final newline. Raises ValueError for NaN and infinities."""
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode("ascii")


@contextmanager
def new_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yields a temporary sibling folder to fill, which becomes `path` when the block succeeds.

    replace: a folder at `path` gets another hidden name, and is removed once the new one has its name. The caller must
    sync the files. If the block fails, nothing is left behind. Raises NcsnxError if the system refuses, or if `path`
    exists and isn't to be replaced.
    """
    temporary, old = temporary_sibling(path), temporary_sibling(path)
    try:
        with reporting(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.mkdir()
        yield temporary
        with reporting(path):
            sync_folder(temporary)
            if replace and path.exists():
                path.rename(old)
            temporary.rename(path)
            sync_folder(path.parent)
    except BaseException:
        if old.exists() and not path.exists():
            old.rename(path)
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def check_place(path: Path) -> None:
    """Checks, without creating anything, whether a new file or folder can be created at `path`.

    Raises NcsnxError as `new_folder` would: for a name that is too long, a file in place of a folder, or a folder that
    isn't writable.
    """
    with reporting(path):
        with suppress(FileNotFoundError, NotADirectoryError):
            temporary_sibling(path).lstat()  # the longest name that will be used
        parent = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
        if not parent.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{parent} is not a folder")
        if not os.access(parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def append_line(path: Path, line: str) -> None:
    """Appends and syncs `line` (without line breaks); creates the file if needed. Raises NcsnxError.

    A line counts only with its newline: a partial last line, left by a killed process, is cut off first. If the disk is
    full, the file stays unchanged.
    """
    content = (line + "\n").encode("utf-8")
    with reporting(path, len(content)):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            start = _end_of_lines(descriptor)
            os.ftruncate(descriptor, start)
            os.lseek(descriptor, start, os.SEEK_SET)
            try:
                _write_all(descriptor, content)
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, start)
                raise
        finally:
            os.close(descriptor)
        if start == 0:
            sync_folder(path.parent)


def _write_all(descriptor: int, content: bytes | memoryview) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _end_of_lines(descriptor: int) -> int:
    size = os.fstat(descriptor).st_size
    if size == 0 or os.pread(descriptor, 1, size - 1) == b"\n":
        return size
    return os.pread(descriptor, size, 0).rfind(b"\n") + 1
