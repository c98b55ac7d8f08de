"""Kinds of JSON documents, each declared as a frozen attrs class with `@document`.

Unknown keys are refused, except in fields declared as `dict[str, Any]`. A form of a newer version is refused.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import attrs

from ncsnx.config.strict.complaints import StructureError, entitle
from ncsnx.config.strict.converter import structured, unstructured
from ncsnx.storage import atomic
from ncsnx.storage.parsing import parse_json
from ncsnx.storage.sealed import sealed, unsealed

T = TypeVar("T")


@attrs.frozen
class DocumentKind:
    """Properties of a kind of document besides its fields."""

    title: str
    """Name in messages, with an article."""
    advice: str
    """Advice for a damaged document; empty where the reader adds its own."""
    is_sealed: bool
    """Whether the file is sealed: see `ncsnx.storage.sealed`."""


DOCUMENTS: dict[type, DocumentKind] = {}
"""Kinds of documents by class, for all imported modules."""


def document(title: str, *, advice: str = "", sealed: bool = False) -> Callable[[type[T]], type[T]]:
    """Class decorator that declares a frozen attrs class as a kind of document; parameters as in `DocumentKind`."""

    def declared(cls: type[T]) -> type[T]:
        DOCUMENTS[cls] = DocumentKind(title, advice, sealed)
        entitle(cls, title)
        return cls

    return declared


def document_of(values: object, cls: type[T], where: Path | str) -> T:
    """The document with these JSON values. where: their location, for errors.

    Raises StructureError that says where, what is wrong and what to do; NewerVersionError for a newer version.
    """
    try:
        return structured(values, cls)
    except StructureError as error:
        raise type(error)(error.problems, str(where), DOCUMENTS[cls].advice, error.more) from error


def parse_document(content: bytes, cls: type[T], where: Path | str) -> T:
    """The document in a file's `content`. where: the file, for errors. Raises as `document_of`."""
    kind = DOCUMENTS[cls]
    if kind.is_sealed:
        values: Any = unsealed(content)
        if values is None:
            what = "is damaged: it does not match its own digest"
            raise StructureError([("", what)], str(where), kind.advice)
    else:
        try:
            values = parse_json(content)
        except ValueError as error:
            raise StructureError([("", f"expected JSON, but {error}")], str(where), kind.advice) from error
    return document_of(values, cls, where)


def document_values(value: Any) -> dict[str, Any]:
    """A document as JSON values, without a digest."""
    values: dict[str, Any] = unstructured(value)
    return values


def document_bytes(value: Any) -> bytes:
    """The content of a document's file: readable JSON, sealed if its kind is. Raises ValueError for NaN."""
    values = document_values(value)
    return sealed(values) if DOCUMENTS[type(value)].is_sealed else atomic.json_bytes(values)
