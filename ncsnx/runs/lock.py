"""One writer at a time: a kernel lock that ends with its process, and a note of who holds it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from textwrap import shorten

from filelock import FileLock, Timeout

from ncsnx.errors import NcsnxError
from ncsnx.runs import atomic
from ncsnx.runs.folder import Run
from ncsnx.runs.process import this_process

# Long enough for a holder that has just got the lock to write its note over that of a killed one.
_PATIENCE_S = 0.5


@contextmanager
def writer_lock(run: Run) -> Iterator[None]:
    """Holds the right to write `run` during the block.

    Raises NcsnxError that names process and host if another has it. The lock is the kernel's: it is free the
    moment its holder ends, however that ends, and a note that a killed holder left is overwritten.
    """
    lock = FileLock(run.lock_path)
    with atomic.reporting(run.lock_path):
        try:
            lock.acquire(timeout=_PATIENCE_S)
        except Timeout:
            raise NcsnxError(
                f"run {run.name!r} is being written by {_holder(run)}; wait until it ends, or stop it"
            ) from None
    try:
        # a file of its own, because some versions of filelock truncate the lock file
        atomic.write_json(run.holder_path, this_process())
        yield
    finally:
        with suppress(OSError):
            run.holder_path.unlink()
        lock.release()


def _holder(run: Run) -> str:
    try:
        note = json.loads(run.holder_path.read_bytes())
        command = shorten(str(note["command"]), 100, placeholder=" …")
        return f"process {note['pid']} on {note['host']} ({command}, since {note['started']})"
    except (OSError, ValueError, KeyError, TypeError):
        return f"another process ({run.holder_path} doesn't say which)"
