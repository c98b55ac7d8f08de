"""JSON documents: frozen attrs classes, declared with `@document`, that are saved to files and read back.

Unknown keys are refused, except in fields declared as `dict[str, Any]`. A form of a newer version is refused. A sealed
document contains a digest of its content, and is valid only byte for byte as written.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import attrs

from ncsnx import bounded_reads
from ncsnx.config.codec import digest
from ncsnx.config.converter import StructureError, structure, unstructure
from ncsnx.errors import AdvisedError
from ncsnx.storage import atomic
from ncsnx.storage.json_lines import append_record, read_records

T = TypeVar("T")


@attrs.frozen
class DocumentKind:
    """Properties of a kind of document besides its fields. It is the decorator `document` of a frozen attrs class."""

    title: str
    """Name in messages, with an article."""
    advice: str = attrs.field(default="", kw_only=True)
    """Advice for a damaged document; empty where the reader adds its own."""
    sealed: bool = attrs.field(default=False, kw_only=True)
    """Whether the file contains a digest of its content."""

    def __call__(self, cls: type[T]) -> type[T]:
        """Declares the class, and returns it unchanged."""
        DOCUMENTS[cls] = self
        return cls


document = DocumentKind
DOCUMENTS: dict[type, DocumentKind] = {}
"""Kinds of documents by class, for all imported modules."""


def document_of(values: object, cls: type[T], where: Path | str) -> T:
    """The document with these JSON values. where: their location, for errors.

    Raises StructureError that says where, what is wrong and what to do; NewerVersionError for a newer version.
    """
    try:
        return structure(values, cls)
    except StructureError as error:
        raise type(error)(error.problems, str(where), DOCUMENTS[cls].advice) from error


def parse_document(content: bytes, cls: type[T], where: Path | str) -> T:
    """The document in a file's `content`. where: the file, for errors. Raises as `document_of`."""
    kind = DOCUMENTS[cls]
    if kind.sealed:
        values: Any = unsealed(content)
        if values is None:
            what = "is damaged: it does not match its own digest"
            raise StructureError([("", what)], str(where), kind.advice)
    else:
        try:
            values = bounded_reads.parse_json(content)
        except ValueError as error:
            raise StructureError([("", f"expected JSON, but {error}")], str(where), kind.advice) from error
    return document_of(values, cls, where)


def document_bytes(value: Any) -> bytes:
    """The content of a document's file: readable JSON, sealed if its kind is. Raises ValueError for NaN."""
    values = unstructure(value)
    return sealed_bytes(values) if DOCUMENTS[type(value)].sealed else atomic.json_bytes(values)


def read_document(path: Path, cls: type[T], limit: int = bounded_reads.JSON_LIMIT) -> T:
    """The document in a file of at most `limit` bytes.

    Raises FileNotFoundError for a missing file, AdvisedError for a file that can't be read, StructureError for invalid
    content.
    """
    try:
        content = bounded_reads.read_bytes(path, limit)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise AdvisedError(f"cannot read {path}: {error.strerror}", DOCUMENTS[cls].advice) from error
    return parse_document(content, cls, path)


def find_document(path: Path, cls: type[T], limit: int = bounded_reads.JSON_LIMIT) -> T | None:
    """The document in a file; None if the file is missing, unreadable or invalid."""
    try:
        return parse_document(bounded_reads.read_bytes(path, limit), cls, path)
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
    append_record(path, unstructure(value))


def sealed_bytes(content: Mapping[str, Any]) -> bytes:
    """The bytes of a sealed file: readable JSON of `content` with the digest of its canonical form."""
    return atomic.json_bytes({**content, "digest": digest(content)})


def unsealed(written: bytes) -> dict[str, Any] | None:
    """The content of a sealed file; None for anything else.

    The bytes are compared too, since the digest doesn't depend on how the JSON is formatted.
    """
    try:
        content = bounded_reads.parse_json(written)
        intact = isinstance(content, dict) and atomic.json_bytes(content) == written
        return content if intact and content.pop("digest", None) == digest(content) else None
    except ValueError:  # invalid JSON, or a number that JSON can't represent
        return None
