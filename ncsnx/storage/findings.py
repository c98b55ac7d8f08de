"""What was found out about a data set by looking at all of it, kept in the cache so that it is looked at once.

    KIND/DIGEST/found.json

The JSON holds a digest of itself; a damaged one counts as not there.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ncsnx.config.canonical import digest
from ncsnx.storage import atomic, reading
from ncsnx.storage.cache import cache_folder, making
from ncsnx.work import Work

_FILE = "found.json"
_SCHEMA_VERSION = 1


def finding_place(kind: str, key: Any, cache: Path | None = None) -> Path:
    """The folder of the cache, by default the user's, for what was found out about `key`, which is JSON."""
    return cache_folder(cache) / kind / digest({"schema_version": _SCHEMA_VERSION, "key": key})


def found(
    place: Path,
    find: Callable[[], dict[str, Any]],
    what: str,
    work: Work,
    still_true: Callable[[dict[str, Any]], bool] = lambda record: True,
    *,
    anew: bool = False,
) -> dict[str, Any]:
    """The JSON that `find` gives, from `place` where it is kept and still true, unless it is to be found anew.

    what: its name for a person who waits for another process. Raises NcsnxError where the cache can't be written.
    """
    with making(place, what, work):
        known = None if anew else _read(place / _FILE)
        if known is not None and still_true(known):
            return known
        record = find()
        atomic.write_json(place / _FILE, {**record, "digest": digest(record)})
        return record


def _read(path: Path) -> dict[str, Any] | None:
    try:
        record: dict[str, Any] = json.loads(reading.read_bytes(path))
        return record if record.pop("digest") == digest(record) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
