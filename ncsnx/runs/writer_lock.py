"""One writer at a time: a kernel lock that ends with its process, and a note that names the holder."""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from textwrap import shorten

import attrs
from filelock import FileLock, Timeout

from ncsnx.config.variants import VERSION
from ncsnx.errors import NcsnxError, printable, shortened
from ncsnx.ranks.rank_group import RankGroup
from ncsnx.ranks.sharing import wait_for_file
from ncsnx.runs.folder import Run
from ncsnx.storage import atomic
from ncsnx.storage.documents import document, find_document, write_document
from ncsnx.storage.process import ProcessNote, batch_job, this_process

LOCK, HOLDER = ".lock", ".holder.json"

# Long enough for a new holder to overwrite the note of a killed one, and for `writer_of` to release its shared lock.
_PATIENCE_S = 0.5


@document("a note of who writes")
@attrs.frozen(kw_only=True)
class HolderNote(ProcessNote):
    """The process that holds a folder's lock."""

    schema_version: int = attrs.field(default=1, metadata=VERSION)
    job: str | None
    """The batch job of the process, such as 'Slurm job 1234'."""


def writer_lock(run: Run) -> AbstractContextManager[None]:
    """Holds the writer's lock of `run` during the block; see `folder_lock`."""
    return folder_lock(run.path, f"run {run.name!r}")


@contextmanager
def folder_lock(folder: Path, what: str) -> Iterator[None]:
    """Holds the writer's lock of `folder` during the block. what: the folder's name in messages.

    Raises NcsnxError that names process, host and batch job if another process holds it. The kernel frees the lock when
    its holder ends, however it ends; a killed holder's note is overwritten.
    """
    holder, lock = folder / HOLDER, FileLock(folder / LOCK)
    with atomic.reporting(folder / LOCK, 0):
        try:
            lock.acquire(timeout=_PATIENCE_S)
        except Timeout:
            raise NcsnxError(f"{what} is being written by {_holder(holder)}; wait until it ends, or stop it") from None
    try:
        # a separate file, because some versions of filelock truncate the lock file
        write_document(holder, HolderNote(**this_process(), job=batch_job()))
        yield
    finally:
        with suppress(OSError):
            holder.unlink()
        lock.release()


def require_lock(folder: Path, ranks: RankGroup, check_stop: Callable[[], None]) -> None:
    """Returns once this rank sees the lock that rank 0 holds. Raises NcsnxError if it doesn't, on another disk."""
    wait_for_file(folder / HOLDER, "rank 0", ranks, check_stop)


def writer_of(folder: Path) -> str | None:
    """The holder of `folder`'s lock, in words; None if nobody holds it. Writes nothing, as `is_being_written`."""
    return _holder(folder / HOLDER) if is_being_written(folder) else None


def is_being_written(folder: Path) -> bool:
    """Whether a process holds `folder`'s lock. Writes nothing, not even the lock file.

    It takes a shared lock for a moment; a writer that starts just then waits longer than that.
    """
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False  # nobody ever locked it
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EAGAIN, errno.EACCES)
    finally:
        os.close(descriptor)
    return False


def _holder(path: Path) -> str:
    note = find_document(path, HolderNote)
    if note is None:
        return f"another process ({path} does not say which)"
    command = shorten(printable(note.command), 100, placeholder=" …")
    pid, host, started = (shortened(printable(str(one))) for one in (note.pid, note.host, note.started))
    job = "" if note.job is None else f"{shorten(printable(note.job), 100, placeholder=' …')}, "
    return f"process {pid} on {host} ({job}{command}, since {started})"
