"""The cache folder: what is dear to make or to download and can be made or downloaded again."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from ncsnx.paths import folder_of
from ncsnx.storage import atomic
from ncsnx.work import Work

_LOCK = ".lock"
_POLL_S = 0.2


def cache_folder(given: Path | None = None) -> Path:
    """Where the cache is: `given`, else the variable NCSNX_CACHE, else the system's place.

    Raises UsageError for something that isn't a folder.
    """
    return folder_of(given, "NCSNX_CACHE", user_cache_path("ncsnx", appauthor=False))


@contextmanager
def cache_lock(folder: Path, what: str, work: Work) -> Iterator[None]:
    """Holds the right to fill `folder` of the cache during the block; waits as long as another process has it.

    So of two processes that need the same, one makes it and the other finds it: look whether it is there only inside
    the block. what: its name for a person. Raises NcsnxError where the folder can't be written.
    """
    lock = FileLock(folder / _LOCK)
    with atomic.reporting(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            work.info(f"waiting for {what}, which another process is making in {folder}")
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
