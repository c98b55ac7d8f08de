"""Problems of JSON values that should be an attrs class: the path, what was expected and what was found.

Text from a file, keys included, is escaped and cut before it enters a message.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import get_close_matches
from functools import partial
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

from ncsnx.config.checks import FieldError, quoted
from ncsnx.config.variants import Config, rest_field, tag_of
from ncsnx.errors import AdvisedError

Problem = tuple[str, str]
"""Path and complaint."""

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_.-]{1,80}")
_MOST_TEXT = 1_000
"""Characters of problems in one message; the rest are counted."""
_MOST_TOLD = 20
"""Problems that are described; the rest are counted."""
_MOST_NEAR = 100
"""Longest text for which near matches are searched, in characters: the search is quadratic in its length."""


class StructureError(AdvisedError):
    """JSON values that aren't what a class declares, with every problem as (path, complaint) in `problems`.

    where: beginning of the message. advice: its end. more: number of problems that `problems` lacks.
    """

    def __init__(self, problems: Sequence[Problem], where: str = "", advice: str = "", more: int = 0) -> None:
        self.problems, self.more = list(problems), more
        self.words = problems_in_words(self.problems, more)
        super().__init__(f"{where}: {self.words}" if where else self.words, advice)


class NewerVersionError(StructureError):
    """Values that only a newer ncsnx can read; the advice is to update."""

    def __init__(self, problems: Sequence[Problem], where: str = "", advice: str = "", more: int = 0) -> None:
        super().__init__(problems, where, "update ncsnx", more)


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


_titles: dict[type, str] = {}


def entitle(cls: type, title: str) -> None:
    """Sets the name of a class in messages. Variants are named by their tags."""
    _titles[cls] = title


def problems_in_words(problems: Iterable[Problem], more: int = 0) -> str:
    """The problems in one line, as many as fit into a message; the others and `more` are counted at the end."""
    said: list[str] = []
    lines = [f"{path}: {complaint}" if path else complaint for path, complaint in problems]
    for line in lines:
        if said and sum(map(len, said)) + len(line) > _MOST_TEXT:
            break
        said.append(line)
    left = len(lines) - len(said) + more
    return "; ".join([*said, f"and {left:,} more"] if left else said)


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
    """The problems in cattrs' tree of errors; a NewerVersionError if a part is newer, which explains the others."""
    leaves = list(_leaves(error, cls, ""))
    newer = [leaf for leaf in leaves if leaf.is_newer]
    leaves, kind = (newer, NewerVersionError) if newer else (leaves, StructureError)
    return kind([(leaf.path, leaf.say()) for leaf in leaves[:_MOST_TOLD]], more=max(0, len(leaves) - _MOST_TOLD))


@attrs.frozen
class _Leaf:
    """One problem. Its complaint is built on demand: that takes time, and there may be thousands."""

    path: str
    say: Callable[[], str]
    is_newer: bool = False


def _leaves(error: BaseException, cls: Any, path: str) -> Iterator[_Leaf]:
    if isinstance(error, BaseValidationError):
        for inner in error.exceptions:
            owner = error.cl if isinstance(error, ClassValidationError) else cls
            yield from _leaves(inner, owner, _extended(path, inner, owner))
    elif isinstance(error, ForbiddenExtraKeysError):
        for key in sorted(error.extra_fields):
            yield _Leaf(inside(path, key), partial(unknown_key, key, error.cl))
    elif isinstance(error, KeyError):
        yield _Leaf(path, partial("is required{}, but missing".format, _of(cls, " by ")))
    elif isinstance(error, FieldError):
        yield _Leaf(inside(path, error.field), partial(str, error.complaint))
    elif isinstance(error, StructureError):
        for inner_path, complaint in error.problems:
            whole = f"{path}.{inner_path}" if path and inner_path else path or inner_path
            yield _Leaf(whole, partial(str, complaint), isinstance(error, NewerVersionError))
    else:
        yield _Leaf(path, partial(str, error))


def _extended(path: str, error: BaseException, owner: Any) -> str:
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            return path if note.name == rest_field(owner) else inside(path, note.name)
        if isinstance(note, IterableValidationNote):
            return inside(path, note.index)
    return path


def _of(cls: Any, word: str) -> str:
    title = _titles.get(cls)
    if title is None and isinstance(cls, type) and issubclass(cls, Config):
        title = tag_of(cls) or cls.__name__
    return f"{word}{title}" if title else ""
