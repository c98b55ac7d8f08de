"""Problems of JSON values that should be an attrs class: the path, what was expected and what was found.

Text from a file, keys included, is escaped and cut before it enters a message.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from itertools import islice
from types import NoneType
from typing import Any

import attrs
from cattrs import (
    AttributeValidationNote,
    BaseValidationError,
    ClassValidationError,
    ForbiddenExtraKeysError,
    IterableValidationNote,
)

from ncsnx.config.checks import FieldError
from ncsnx.config.variants import Config, rest_field, tag_of
from ncsnx.errors import AdvisedError, quoted

Problem = tuple[str, str]
"""Path and complaint."""

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_.-]{1,80}")
_MOST_TEXT = 1_000
"""Characters of problems in one message."""
_MOST_TOLD = 20
"""Problems that are described: each takes time, and there may be thousands."""
_MOST_NEAR = 100
"""Longest text for which near matches are searched, in characters: the search is quadratic in its length."""


class StructureError(AdvisedError):
    """JSON values that aren't what a class declares, with the first problems as (path, complaint) in `problems`.

    where: beginning of the message. advice: its end. missing: paths of required values that are missing.
    """

    def __init__(
        self, problems: Sequence[Problem], where: str = "", advice: str = "", missing: Sequence[str] = ()
    ) -> None:
        self.problems, self.missing = list(problems), list(missing)
        words = problems_in_words(self.problems)
        super().__init__(f"{where}: {words}" if where else words, advice)


class NewerVersionError(StructureError):
    """Values that only a newer ncsnx can read; the advice is to update."""

    def __init__(self, problems: Sequence[Problem], where: str = "", advice: str = "") -> None:
        super().__init__(problems, where, "update ncsnx")


class RefusedError(Exception):
    """A value that its declared type doesn't accept.

    near: accepted words, of which the message suggests the nearest. found: the value in words, if not by its type.
    more: end of the message. The message is built when it is shown.
    """

    def __init__(self, expected: str, value: object, near: Sequence[str] = (), found: str = "", more: str = "") -> None:
        super().__init__(expected, value, near, found, more)

    def __str__(self) -> str:
        expected, value, near, found, more = self.args
        return f"expected {expected}, found {found or found_in_words(value)}{did_you_mean(value, near)}{more}"


def problems_in_words(problems: Iterable[Problem]) -> str:
    """The problems in one line, as many as fit into a message."""
    words = ""
    for path, complaint in problems:
        line = f"{path}: {complaint}" if path else complaint
        if words and len(words) + len(line) > _MOST_TEXT:
            return f"{words}; and more"
        words += f"; {line}" if words else line
    return words


def json_kind(value: object) -> str:
    """Name of a value's type in messages, near JSON's own: 'boolean', 'text', 'list', 'object'."""
    names = {bool: "boolean", int: "integer", float: "number", str: "text", NoneType: "none", dict: "object"}
    return names.get(type(value), "list" if isinstance(value, list | tuple) else type(value).__name__)


def found_in_words(value: object) -> str:
    """A value preceded by its type, escaped and cut."""
    if isinstance(value, type):
        return f"the class itself; write {value.__name__}(…)"
    return "none" if value is None else f"{json_kind(value)} {quoted(value)}"


def did_you_mean(given: object, accepted: Iterable[str]) -> str:
    """`; did you mean 'x'?` if an accepted word is near, else ''."""
    is_short = isinstance(given, str) and len(given) <= _MOST_NEAR
    near = get_close_matches(str(given), accepted, n=1) if is_short else []
    return f"; did you mean {near[0]!r}?" if near else ""


def unknown_key(key: str, cls: Any) -> str:
    """The complaint about a field that `cls` lacks, with the nearest field or all fields."""
    fields = [field.name for field in attrs.fields(cls)]
    hint = did_you_mean(key, fields) or f"; it has {', '.join(fields)}"
    return f"no such field{_of(cls, ' in ')}{hint}"


def inside(path: str, key: str | int) -> str:
    """The path of the value at `key` within `path`."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    shown = key if _PLAIN_KEY.fullmatch(key) else quoted(key)
    return f"{path}.{shown}" if path else shown


def structure_error(error: BaseException, cls: Any) -> StructureError:
    """The first problems in cattrs' tree of errors; a NewerVersionError if a part is newer, which explains others."""
    problems, newer, missing = list[Problem](), list[Problem](), list[str]()
    for path, inner, owner in islice(_leaves(error, cls, ""), _MOST_TOLD):
        if isinstance(inner, StructureError):
            told = newer if isinstance(inner, NewerVersionError) else problems
            told += [(".".join(filter(None, (path, place))), complaint) for place, complaint in inner.problems]
        elif isinstance(inner, FieldError):
            problems.append((inside(path, inner.field), inner.complaint))
        elif isinstance(inner, KeyError):
            missing.append(path)
            problems.append((path, f"is required{_of(owner, ' by ')}, but missing"))
        else:
            problems.append((path, str(inner)))
    return NewerVersionError(newer) if newer else StructureError(problems, missing=missing)


def _leaves(error: BaseException, cls: Any, path: str) -> Iterator[tuple[str, BaseException, Any]]:
    """(path, error, class with the field) of each problem in a tree of errors."""
    if isinstance(error, BaseValidationError):
        for inner in error.exceptions:
            owner = error.cl if isinstance(error, ClassValidationError) else cls
            yield from _leaves(inner, owner, _extended(path, inner, owner))
    elif isinstance(error, ForbiddenExtraKeysError):
        for key in sorted(error.extra_fields):
            yield path, StructureError([(inside("", key), unknown_key(key, error.cl))]), error.cl
    else:
        yield path, error, cls


def _extended(path: str, error: BaseException, owner: Any) -> str:
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            return path if note.name == rest_field(owner) else inside(path, note.name)
        if isinstance(note, IterableValidationNote):
            return inside(path, note.index)
    return path


def _of(cls: Any, word: str) -> str:
    return f"{word}{tag_of(cls) or cls.__name__}" if isinstance(cls, type) and issubclass(cls, Config) else ""
