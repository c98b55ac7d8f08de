"""What was found out about a data set by looking at all of it, kept in the cache so that it is looked at once.

    KIND/DIGEST/found.json

The JSON holds a digest of itself; a damaged one counts as not there.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ncsnx.config.canonical import digest
from ncsnx.storage import reading
from ncsnx.storage.cache import cache_folder, cache_lock
from ncsnx.storage.documents.document_files import find_document, write_document
from ncsnx.work import Work

T = TypeVar("T")

_FILE = "found.json"
_SCHEMA_VERSION = 1


def finding_place(kind: str, key: Any, cache: Path | None = None) -> Path:
    """The folder of the cache, by default the user's, for what was found out about `key`, which is JSON."""
    return cache_folder(cache) / kind / digest({"schema_version": _SCHEMA_VERSION, "key": key})


def found(
    place: Path,
    cls: type[T],
    find: Callable[[], T],
    what: str,
    work: Work,
    still_true: Callable[[T], bool] = lambda record: True,
    *,
    anew: bool = False,
) -> T:
    """What `find` gives, a document of the kind `cls`, from `place` where it is kept and still true, unless `anew`.

    what: its name for a person who waits for another process. Raises NcsnxError where the cache can't be written.
    """
    with cache_lock(place, what, work):
        known = None if anew else find_document(place / _FILE, cls, reading.RECORDS_LIMIT)
        if known is not None and still_true(known):
            return known
        record = find()
        write_document(place / _FILE, record)
        return record
