"""What is wrong with JSON values that should be an attrs class: a path, what was expected and what was found.

Whatever a file brings into a message, keys included, is escaped and cut.
"""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
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
from ncsnx.config.strict.fields import rest_field
from ncsnx.config.variants import Config, tag_of
from ncsnx.errors import NcsnxError

Problem = tuple[str, str]
"""Path and complaint."""

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_.-]{1,80}")
_MOST_TEXT = 1_000
"""Characters of problems in one message; those that follow are counted."""
_MOST_NEAR = 100
"""Characters of a text that near matches are looked for: the search takes time with the square of its length."""


class StructureError(NcsnxError):
    """JSON values that aren't what a class declares: `problems` has a (path, complaint) for each wrong thing."""

    def __init__(self, problems: Sequence[Problem], where: str = "", advice: str = "") -> None:
        self.problems = list(problems)
        self.words = problems_in_words(self.problems)
        where, advice = f"{where}: " if where else "", f"; {advice}" if advice else ""
        super().__init__(f"{where}{self.words}{advice}")


class NewerVersionError(StructureError):
    """Values that only a newer ncsnx can read."""


class RefusedError(Exception):
    """A value that its declared type doesn't accept."""

    def __init__(self, expected: str, value: object, remark: str = "") -> None:
        super().__init__(f"expected {expected}, found {found_in_words(value)}{remark}")


_titles: dict[type, str] = {}


def entitle(cls: type, title: str) -> None:
    """Says what messages call a class; variants of configurations have their tags."""
    _titles[cls] = title


def problems_in_words(problems: Iterable[Problem]) -> str:
    """All problems in one line, or as many as a message has room for and the number of the others."""
    said: list[str] = []
    lines = [f"{path}: {complaint}" if path else complaint for path, complaint in problems]
    for line in lines:
        if said and sum(map(len, said)) + len(line) > _MOST_TEXT:
            return f"{'; '.join(said)}; and {len(lines) - len(said):,} more"
        said.append(line)
    return "; ".join(said)


def json_kind(value: object) -> str:
    """What JSON calls a value's type."""
    names = {bool: "boolean", int: "integer", float: "number", str: "text", NoneType: "none", dict: "object"}
    return names.get(type(value), "list" if isinstance(value, list | tuple) else type(value).__name__)


def found_in_words(value: object) -> str:
    """A value with its type, escaped and cut."""
    if isinstance(value, type):
        return f"the class itself; write {value.__name__}(…)"
    return "none" if value is None else f"{json_kind(value)} {quoted(value)}"


def did_you_mean(given: object, accepted: Iterable[str]) -> str:
    """`; did you mean 'x'?` where an accepted word is near, else nothing."""
    is_short = isinstance(given, str) and len(given) <= _MOST_NEAR
    near = get_close_matches(str(given), accepted, n=1) if is_short else []
    return f"; did you mean {near[0]!r}?" if near else ""


def unknown_key(key: str, cls: Any) -> str:
    """The complaint about a field that `cls` doesn't have, with the nearest that it has."""
    fields = [field.name for field in attrs.fields(cls)]
    hint = did_you_mean(key, fields) or f"; it has {', '.join(fields)}"
    return f"no such field{_of(cls, ' in ')}{hint}"


def missing_key(cls: Any) -> str:
    """The complaint about a field of `cls` that isn't there."""
    return f"is required{_of(cls, ' by ')}, but missing"


def inside(path: str, key: str | int) -> str:
    """The path of what is under `key` at `path`."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    shown = key if _PLAIN_KEY.fullmatch(key) else quoted(key)
    return f"{path}.{shown}" if path else shown


def problems_of(error: BaseException, cls: Any, path: str = "") -> list[Problem]:
    """Every leaf of cattrs' tree of errors as (path, complaint)."""
    if isinstance(error, BaseValidationError):
        found: list[Problem] = []
        for inner in error.exceptions:
            owner = error.cl if isinstance(error, ClassValidationError) else cls
            found.extend(problems_of(inner, owner, _extended(path, inner, owner)))
        return found
    if isinstance(error, ForbiddenExtraKeysError):
        return [(inside(path, key), unknown_key(key, error.cl)) for key in sorted(error.extra_fields)]
    if isinstance(error, KeyError):
        return [(path, missing_key(cls))]
    if isinstance(error, FieldError):
        return [(inside(path, error.field), error.complaint)]
    if isinstance(error, StructureError):
        return [
            (f"{path}.{inner}" if path and inner else path or inner, complaint) for inner, complaint in error.problems
        ]
    return [(path, str(error))]


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
