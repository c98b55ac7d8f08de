"""Cached findings: results of a pass over a whole data set.

    KIND/DIGEST/found.json

The JSON contains its own digest; a damaged file counts as missing.
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
    """Folder of the finding with `key` (JSON). cache: the cache folder, by default the user's."""
    return cache_folder(cache) / kind / digest({"schema_version": _SCHEMA_VERSION, "key": key})


def found(
    place: Path,
    cls: type[T],
    find: Callable[[], T],
    what: str,
    work: Work,
    still_true: Callable[[T], bool] = lambda record: True,
    *,
    refresh: bool = False,
) -> T:
    """The document of class `cls` in the folder `place`, else the one that `find` returns, which is then cached.

    A cached document is used only if `still_true` accepts it, and never with `refresh`. what: its name, for messages.
    Raises NcsnxError if the cache can't be written.
    """
    with cache_lock(place, what, work):
        known = None if refresh else find_document(place / _FILE, cls, reading.RECORDS_LIMIT)
        if known is not None and still_true(known):
            return known
        record = find()
        write_document(place / _FILE, record)
        return record
