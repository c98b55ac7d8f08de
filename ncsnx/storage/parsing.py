"""Strict parsing of JSON from untrusted files: anything ambiguous that Python's parser accepts is refused."""

import json
import math
from pathlib import Path
from typing import Any, NoReturn

from ncsnx.storage import reading

_MOST_NESTING = 64
"""Largest nesting depth of lists and objects; ncsnx's own files have a handful of levels."""


def read_json(path: Path, limit: int = reading.JSON_LIMIT) -> Any:
    """The JSON value in a file of at most `limit` bytes. Raises OSError as `reading.read_bytes`, and ValueError."""
    return parse_json(reading.read_bytes(path, limit))


def parse_json(content: bytes) -> Any:
    """The value of a JSON text in UTF-8. Raises ValueError for anything else.

    That includes text that Python's parser accepts: NaN, numbers beyond the range of floats, duplicate keys, half a
    surrogate pair (which can't be encoded again), and nesting too deep for recursion over the value.
    """
    text = content.decode("utf-8")
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError:
        raise _too_nested() from None
    if text.count("[") + text.count("{") > _MOST_NESTING and _is_nested_deeper(value, _MOST_NESTING):
        raise _too_nested()
    if "\\ud" in text.lower():
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:80]!r} occurs twice")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number[:80]} is beyond the range of floats")
    return value


def _too_nested() -> ValueError:
    return ValueError(f"lists and objects are nested more than {_MOST_NESTING} deep")


def _is_nested_deeper(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most + 1):
        level = [inner for outer in level for inner in _items(outer)]
    return bool(level)


def _items(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
