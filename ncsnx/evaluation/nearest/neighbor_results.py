"""Saved results of a search for neighbours, with hashes of themselves and of the figures and tables beside them."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ncsnx.runs.result_records import NeighborRecord
from ncsnx.runs.score_files import RESULTS
from ncsnx.storage import atomic, reading
from ncsnx.storage.documents import document_bytes, document_of, find_document
from ncsnx.storage.reading import parse_json


def write_results(folder: Path, results: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Writes `results` with the sha256 of the existing files `names` and a digest of its own; returns the JSON values.

    Raises NcsnxError.
    """
    with atomic.reporting(folder / RESULTS):
        files = {name: reading.sha256_of(folder / name) for name in names}
    content = document_bytes(document_of({**results, "files": files}, NeighborRecord, folder / RESULTS))
    atomic.write_bytes(folder / RESULTS, content)
    return parse_json(content)  # type: ignore[no-any-return]


def read_results(
    folder: Path, protocol: Mapping[str, Any], spaces: Collection[str], names: Collection[str]
) -> dict[str, Any] | None:
    """The results that `write_results` wrote for this protocol and these spaces; None if any file was changed."""
    found = find_document(folder / RESULTS, NeighborRecord)
    if found is None or found.spaces.keys() != set(spaces) or found.protocol != json.loads(json.dumps(protocol)):
        return None
    try:
        if found.files != {name: reading.sha256_of(folder / name) for name in names}:
            return None
    except OSError:  # missing, a link, or not a regular file
        return None
    return parse_json(document_bytes(found))  # type: ignore[no-any-return]
