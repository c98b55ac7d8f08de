"""JSON files of ours that vouch for themselves: every byte counts, and a digest of the content stands in it."""

from collections.abc import Mapping
from typing import Any

from ncsnx.config.canonical import digest
from ncsnx.storage import atomic
from ncsnx.storage.parsing import parse_json


def sealed(content: Mapping[str, Any]) -> bytes:
    """The file: readable JSON with a digest of its own canonical form."""
    return atomic.json_bytes({**content, "digest": digest(content)})


def unsealed(written: bytes) -> dict[str, Any] | None:
    """The content of what `sealed` wrote; None for anything else.

    JSON can be written in many ways, and a digest of the content sees no difference; one of them is ours.
    """
    try:
        content = parse_json(written)
        intact = isinstance(content, dict) and atomic.json_bytes(content) == written
        return content if intact and content.pop("digest", None) == digest(content) else None
    except ValueError:  # what isn't JSON, or is a number that JSON can't say
        return None
