"""Files with one document, and JSON-lines files with one document per line."""

from pathlib import Path
from typing import Any, TypeVar

from ncsnx.config.strict.complaints import StructureError
from ncsnx.errors import AdvisedError
from ncsnx.storage import atomic, reading
from ncsnx.storage.documents.document import (
    DOCUMENTS,
    document_bytes,
    document_of,
    document_values,
    parse_document,
)
from ncsnx.storage.json_lines import append_record, read_records

T = TypeVar("T")


def read_document(path: Path, cls: type[T], limit: int = reading.JSON_LIMIT) -> T:
    """The document in a file of at most `limit` bytes.

    Raises FileNotFoundError for a missing file, AdvisedError for a file that can't be read, StructureError for invalid
    content.
    """
    try:
        content = reading.read_bytes(path, limit)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise AdvisedError(f"cannot read {path}: {error.strerror}", DOCUMENTS[cls].advice) from error
    return parse_document(content, cls, path)


def find_document(path: Path, cls: type[T], limit: int = reading.JSON_LIMIT) -> T | None:
    """The document in a file; None if the file is missing, unreadable or invalid."""
    try:
        return parse_document(reading.read_bytes(path, limit), cls, path)
    except (OSError, StructureError):
        return None


def write_document(path: Path, value: Any) -> None:
    """Replaces the file at `path` by a document. Raises NcsnxError, and ValueError for NaN."""
    atomic.write_bytes(path, document_bytes(value))


def read_document_lines(path: Path, cls: type[T]) -> list[T]:
    """The documents in a JSON-lines file, without a torn last line. A missing file has no documents.

    Raises NcsnxError for a file that can't be read, and for an invalid line.
    """
    return [document_of(record, cls, f"{path}, line {n}") for n, record in enumerate(read_records(path), start=1)]


def append_document(path: Path, value: Any) -> None:
    """Appends a document as one line, durably. Raises NcsnxError, and ValueError for NaN."""
    append_record(path, document_values(value))
