"""The cache folder, for expensive files that can be computed or downloaded again.

Results of a pass over a whole data set are in KIND/DIGEST/found.json, with a digest of their own; a damaged file counts
as missing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from ncsnx import bounded_reads
from ncsnx.config.codec import digest
from ncsnx.paths import folder_of
from ncsnx.storage import atomic
from ncsnx.storage.documents import find_document, write_document
from ncsnx.work import Work

T = TypeVar("T")

_LOCK = ".lock"
_SCHEMA_VERSION = 1
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


def cache_path(kind: str, key: Any, cache: Path | None = None) -> Path:
    """File of the finding with `key` (JSON). cache: the cache folder, by default the user's."""
    return cache_folder(cache) / kind / digest({"schema_version": _SCHEMA_VERSION, "key": key}) / "found.json"


def cached(
    path: Path,
    cls: type[T],
    find: Callable[[], T],
    what: str,
    work: Work,
    still_true: Callable[[T], bool] = lambda record: True,
) -> T:
    """The document of class `cls` in the file `path`, else the one that `find` returns, which is then cached.

    A cached document is used only if `still_true` accepts it. Of two processes one calls `find`, and the other waits.
    what: its name, for messages. Raises NcsnxError if the cache can't be written.
    """

    def known() -> T | None:
        record = find_document(path, cls, bounded_reads.RECORDS_LIMIT)
        return record if record is not None and still_true(record) else None

    if (record := known()) is None:  # without the lock, which a shared cache that is read-only doesn't give
        with cache_lock(path.parent, what, work):
            if (record := known()) is None:
                record = find()
                write_document(path, record)
    return record
