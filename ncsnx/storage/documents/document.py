"""A kind of JSON document is a frozen attrs class with `@document`; what is written of it is what is read.

Unknown keys are refused, but in fields declared as `dict[str, Any]`. Where the form of a kind changes, the default of
its version field rises, and a migration from the form before is added there (see `ncsnx.config.strict.fields`).
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
    """What is said of a kind of document beside its fields."""

    title: str
    """Its name in messages, with an article."""
    advice: str
    """What to do about one that is damaged; empty where whoever reads it knows."""
    is_sealed: bool
    """Whether every byte of it counts, and a digest stands in it."""


DOCUMENTS: dict[type, DocumentKind] = {}
"""The kinds there are, as far as their modules are imported."""


def document(title: str, *, advice: str = "", sealed: bool = False) -> Callable[[type[T]], type[T]]:
    """Class decorator: makes a frozen attrs class a kind of document; for the parameters see `DocumentKind`."""

    def declared(cls: type[T]) -> type[T]:
        DOCUMENTS[cls] = DocumentKind(title, advice, sealed)
        entitle(cls, title)
        return cls

    return declared


def document_of(values: object, cls: type[T], where: Path | str) -> T:
    """The document of JSON values that are at `where`.

    Raises StructureError that says where, what is wrong and what to do; NewerVersionError for one that is to come.
    """
    try:
        return structured(values, cls)
    except StructureError as error:
        raise type(error)(error.problems, str(where), DOCUMENTS[cls].advice, error.more) from error


def parse_document(content: bytes, cls: type[T], where: Path | str) -> T:
    """The document that a file at `where` holds. Raises as `document_of`."""
    kind = DOCUMENTS[cls]
    if kind.is_sealed:
        values: Any = unsealed(content)
        if values is None:
            what = "is damaged: it is not, byte for byte, what was written"
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
    """The content of a document's file: readable JSON, sealed where its kind is. Raises ValueError for NaN."""
    values = document_values(value)
    return sealed(values) if DOCUMENTS[type(value)].is_sealed else atomic.json_bytes(values)
