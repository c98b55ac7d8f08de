"""What a search for neighbours keeps: numbers that vouch for themselves and for the pictures and tables beside them."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ncsnx.runs.records.neighbor_record import FILE_LIMIT, NeighborRecord
from ncsnx.runs.score_files import RESULTS
from ncsnx.storage import atomic, reading
from ncsnx.storage.documents.document import document_bytes, document_of
from ncsnx.storage.documents.document_files import find_document
from ncsnx.storage.parsing import parse_json


def write_results(folder: Path, results: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Writes what was found beside the files called `names`, which are there; returns what is written, as JSON.

    That is `results` with the sha256 of those files and a digest of its own. Raises NcsnxError.
    """
    with atomic.reporting(folder / RESULTS):
        files = {name: reading.sha256_of(folder / name, FILE_LIMIT) for name in names}
    content = document_bytes(document_of({**results, "files": files}, NeighborRecord, folder / RESULTS))
    atomic.write_bytes(folder / RESULTS, content)
    return parse_json(content)  # type: ignore[no-any-return]


def read_results(
    folder: Path, protocol: Mapping[str, Any], spaces: Collection[str], names: Collection[str]
) -> dict[str, Any] | None:
    """What `write_results` wrote for this protocol, in these spaces; None where it or a file isn't as it was."""
    found = find_document(folder / RESULTS, NeighborRecord)
    if found is None or found.spaces.keys() != set(spaces) or found.protocol != json.loads(json.dumps(protocol)):
        return None
    try:
        if found.files != {name: reading.sha256_of(folder / name, FILE_LIMIT) for name in names}:
            return None
    except OSError:  # one is missing, a link, or something else than a file
        return None
    return parse_json(document_bytes(found))  # type: ignore[no-any-return]
