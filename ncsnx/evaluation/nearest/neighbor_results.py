"""What a search for neighbours keeps: numbers that vouch for themselves and for the pictures and tables beside them."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import attrs

from ncsnx.config.checks import FieldError, quoted
from ncsnx.config.strict.fields import versioned
from ncsnx.evaluation.nearest.memorizing import Share, Verdict
from ncsnx.runs.score_files import RESULTS
from ncsnx.storage import atomic, reading
from ncsnx.storage.documents.document import document, document_bytes, document_of
from ncsnx.storage.documents.document_files import find_document
from ncsnx.storage.parsing import parse_json

_FILE_LIMIT = 2**30


@attrs.frozen(kw_only=True)
class MeasureRecord:
    """Samples and held-out images by one measure; None where there is nothing to compare with."""

    median: float
    held_out_median: float | None
    nearer: Share | None
    near: Share | None
    pairs_probability: float | None
    tail_probability: float | None


@attrs.frozen(kw_only=True)
class SpaceRecord:
    """Both measures in one space."""

    distance: MeasureRecord
    relative: MeasureRecord


@document("the results of a search for neighbours", sealed=True)
@attrs.frozen(kw_only=True)
class NeighborRecord:
    """What results.json says."""

    schema_version: int = attrs.field(default=1, metadata=versioned(since=2))
    protocol: dict[str, Any]
    caption: str
    verdict: Verdict | None
    """None where there are no held-out images to compare with."""
    spaces: dict[str, SpaceRecord]
    files: dict[str, str]
    """Name of each file beside it → its sha256."""

    def __attrs_post_init__(self) -> None:
        for name, space in self.spaces.items():
            for measure in (space.distance, space.relative):
                compared = [getattr(measure, field.name) for field in attrs.fields(MeasureRecord)[1:]]
                if compared.count(None) != (len(compared) if self.verdict is None else 0):
                    raise FieldError("spaces", f"must say of {quoted(name)} what a verdict rests on, if there is one")


def write_results(folder: Path, results: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Writes what was found beside the files called `names`, which are there; returns what is written, as JSON.

    That is `results` with the sha256 of those files and a digest of its own. Raises NcsnxError.
    """
    with atomic.reporting(folder / RESULTS):
        files = {name: reading.sha256_of(folder / name, _FILE_LIMIT) for name in names}
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
        if found.files != {name: reading.sha256_of(folder / name, _FILE_LIMIT) for name in names}:
            return None
    except OSError:  # one is missing, a link, or something else than a file
        return None
    return parse_json(document_bytes(found))  # type: ignore[no-any-return]
