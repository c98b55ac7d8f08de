"""Sealed JSON files: each contains a digest of its content, and is valid only byte for byte as written."""

from collections.abc import Mapping
from typing import Any

from ncsnx.config.canonical import digest
from ncsnx.storage import atomic
from ncsnx.storage.parsing import parse_json


def sealed(content: Mapping[str, Any]) -> bytes:
    """The bytes of a sealed file: readable JSON of `content` with the digest of its canonical form."""
    return atomic.json_bytes({**content, "digest": digest(content)})


def unsealed(written: bytes) -> dict[str, Any] | None:
    """The content of a sealed file; None for anything else.

    The bytes are compared too, since the digest doesn't depend on how the JSON is formatted.
    """
    try:
        content = parse_json(written)
        intact = isinstance(content, dict) and atomic.json_bytes(content) == written
        return content if intact and content.pop("digest", None) == digest(content) else None
    except ValueError:  # invalid JSON, or a number that JSON can't represent
        return None
