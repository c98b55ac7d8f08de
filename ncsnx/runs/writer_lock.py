"""One writer at a time: a kernel lock that ends with its process, and a note that names the holder."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from textwrap import shorten

import attrs
from filelock import FileLock, Timeout

from ncsnx.config.checks import printable, shortened
from ncsnx.errors import NcsnxError
from ncsnx.runs.folder import Run
from ncsnx.storage import atomic, reading
from ncsnx.storage.documents.document import document
from ncsnx.storage.documents.document_files import find_document, write_document
from ncsnx.storage.process import ProcessNote, this_process

LOCK, HOLDER = ".lock", ".holder.json"

# Long enough for a new holder to overwrite the note of a killed one, and for `writer_of` to release its shared lock.
_PATIENCE_S = 0.5


@document("a note of who writes")
@attrs.frozen(kw_only=True)
class HolderNote(ProcessNote):
    """The process that holds a folder's lock."""


def writer_lock(run: Run) -> AbstractContextManager[None]:
    """Holds the writer's lock of `run` during the block; see `folder_lock`."""
    return folder_lock(run.path, f"run {run.name!r}")


@contextmanager
def folder_lock(folder: Path, what: str) -> Iterator[None]:
    """Holds the writer's lock of `folder` during the block. what: the folder's name in messages.

    Raises NcsnxError that names process and host if another process holds it. The kernel frees the lock when its holder
    ends, however it ends; a killed holder's note is overwritten.
    """
    lock_path, holder_path = folder / LOCK, folder / HOLDER
    reading.refuse_links(lock_path)
    lock = FileLock(lock_path)
    with atomic.reporting(lock_path, 0):
        try:
            lock.acquire(timeout=_PATIENCE_S)
        except Timeout:
            raise NcsnxError(
                f"{what} is being written by {_holder(holder_path)}; wait until it ends, or stop it"
            ) from None
    try:
        # a separate file, because some versions of filelock truncate the lock file
        write_document(holder_path, HolderNote(**this_process()))
        yield
    finally:
        with suppress(OSError):
            holder_path.unlink()
        lock.release()


def writer_of(folder: Path) -> str | None:
    """The holder of `folder`'s lock, in words; None if nobody holds it. Writes nothing, not even the lock file.

    It takes a shared lock for a moment; a writer that starts just then waits longer than that.
    """
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None  # nobody ever locked it
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return _holder(folder / HOLDER) if error.errno in (errno.EAGAIN, errno.EACCES) else None
    finally:
        os.close(descriptor)
    return None


def _holder(path: Path) -> str:
    note = find_document(path, HolderNote)
    if note is None:
        return f"another process ({path} does not say which)"
    command = shorten(printable(note.command), 100, placeholder=" …")
    pid, host, started = (shortened(printable(str(one))) for one in (note.pid, note.host, note.started))
    return f"process {pid} on {host} ({command}, since {started})"
