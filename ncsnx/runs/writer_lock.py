"""One writer at a time: a kernel lock that ends with its process, and a note that names the holder.

The lock is flock's. On some mounts of shared file systems it holds on one machine only. There the note counts too: a
writer creates it exclusively, and a note of another machine refuses, until it is removed.
"""

import errno
import fcntl
import os
import shlex
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from textwrap import shorten

import attrs
from filelock import FileLock, Timeout

from ncsnx.config.checks import printable, shortened
from ncsnx.config.strict.fields import VERSION
from ncsnx.errors import Hint, NcsnxError
from ncsnx.ranks.rank_group import RankGroup
from ncsnx.ranks.shared_disk import wait_for_file
from ncsnx.runs.folder import Run
from ncsnx.storage import atomic
from ncsnx.storage.documents import document, document_bytes, find_document, write_document
from ncsnx.storage.locks.flock_support import one_machine_reason, require_flock
from ncsnx.storage.process import ProcessNote, batch_job, this_process
from ncsnx.work import ignore_message

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


def writer_lock(run: Run, warn: Callable[[str], object] = ignore_message) -> AbstractContextManager[None]:
    """Holds the writer's lock of `run` during the block; see `folder_lock`."""
    return folder_lock(run.path, f"run {run.name!r}", warn)


@contextmanager
def folder_lock(folder: Path, what: str, warn: Callable[[str], object] = ignore_message) -> Iterator[None]:
    """Holds the writer's lock of `folder` during the block. what: the folder's name in messages.

    warn: called if the lock doesn't reach other machines. Raises NcsnxError that names process, host and batch job if
    another process holds it, and if the file system has no locks. The kernel frees the lock when its holder ends,
    however it ends; a killed holder's note is overwritten, but see above for notes of other machines.
    """
    lock_path, holder_path = folder / LOCK, folder / HOLDER
    lock = FileLock(lock_path)
    with atomic.reporting(lock_path, 0):
        require_flock(lock_path)
        try:
            lock.acquire(timeout=_PATIENCE_S)
        except Timeout:
            raise _refusal(what, holder_path) from None
    try:
        with _noted(holder_path, what, one_machine_reason(folder), warn):
            yield
    finally:
        lock.release()


@contextmanager
def _noted(path: Path, what: str, reason: str | None, warn: Callable[[str], object]) -> Iterator[None]:
    """Keeps the holder's note during the block. reason: why the lock doesn't reach other machines, if it doesn't."""
    # a separate file, because some versions of filelock truncate the lock file
    note = HolderNote(**this_process(), job=batch_job())
    if reason is None:
        write_document(path, note)
    else:
        _claim(path, note, what, reason)
        warn(f"{reason}: a second writer on another machine is only refused by {path.name}, so do not start one")
    try:
        yield
    finally:
        if reason is None or find_document(path, HolderNote) == note:
            with suppress(OSError):
                path.unlink()


def _claim(path: Path, note: HolderNote, what: str, reason: str) -> None:
    """Creates the note where no machine has one, or replaces one of this machine, whose process has ended."""
    found = find_document(path, HolderNote)
    if found is not None and found.host == note.host:
        with suppress(FileNotFoundError):
            path.unlink()  # this process has the machine's lock
    try:
        atomic.write_new(path, document_bytes(note))
    except NcsnxError as error:
        if isinstance(error.__cause__, FileExistsError):
            raise _refusal(what, path, reason) from None
        raise


def _refusal(what: str, holder_path: Path, reason: str | None = None) -> NcsnxError:
    said = f"{what} is being written by {_holder(holder_path)}; wait until it ends, or stop it"
    if reason is None:
        return NcsnxError(said)
    return NcsnxError(f"{said}; {reason}", Hint("if that process has ended", f"rm {shlex.quote(str(holder_path))}"))


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
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False  # nobody ever locked it
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EAGAIN, errno.EACCES)
    finally:
        os.close(descriptor)
    return _is_elsewhere(folder)


def holder_note(folder: Path) -> HolderNote | None:
    """The note of the process that holds or held `folder`'s lock; None if there is none that can be read."""
    return find_document(folder / HOLDER, HolderNote)


def _is_elsewhere(folder: Path) -> bool:
    """Whether the lock doesn't reach other machines, and one of them has left its note."""
    note = holder_note(folder)
    return note is not None and note.host != socket.gethostname() and one_machine_reason(folder) is not None


def _holder(path: Path) -> str:
    note = find_document(path, HolderNote)
    if note is None:
        return f"another process ({path} does not say which)"
    command = shorten(printable(note.command), 100, placeholder=" …")
    pid, host, started = (shortened(printable(str(one))) for one in (note.pid, note.host, note.started))
    job = "" if note.job is None else f"{shorten(printable(note.job), 100, placeholder=' …')}, "
    return f"process {pid} on {host} ({job}{command}, since {started})"
