"""The cache folder, for expensive files that can be computed or downloaded again."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from ncsnx.paths import folder_of
from ncsnx.storage import atomic
from ncsnx.storage.locks.flock_support import require_flock
from ncsnx.work import Work

_LOCK = ".lock"
_POLL_S = 0.2


def cache_folder(given: Path | None = None) -> Path:
    """The cache folder: `given`, else the environment variable NCSNX_CACHE, else the system's default.

    Raises UsageError for a path that isn't a folder.
    """
    return folder_of(given, "NCSNX_CACHE", user_cache_path("ncsnx", appauthor=False))


@contextmanager
def cache_lock(folder: Path, what: str, work: Work) -> Iterator[None]:
    """Locks `folder` of the cache during the block; waits while another process has the lock.

    Of two processes that need the same content, one creates it and the other finds it, if both check for it inside the
    block. what: the content's name, for messages. Raises NcsnxError if the folder can't be written or locked.
    """
    lock = FileLock(folder / _LOCK)
    with atomic.reporting(folder):
        folder.mkdir(parents=True, exist_ok=True)
        require_flock(folder / _LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            work.info(f"waiting for another process to write {what} to {folder}")
            while not lock.is_locked:
                work.check_stop()
                try:
                    lock.acquire(timeout=_POLL_S)
                except Timeout:
                    continue
    try:
        yield
    finally:
        lock.release()
