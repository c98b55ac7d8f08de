"""The strict converter from JSON values to frozen attrs classes and back. It doesn't import torch.

`"false"` isn't a boolean, 3.7 not an integer, `"abc"` not a list of text; NaN, unknown keys and unknown tags are
refused. Values declared as Any are accepted as they are. A problem is told by its path, what was expected and what was
found; text from a file, keys included, is escaped and cut before it enters a message.
"""

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from functools import cache, reduce
from operator import or_
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import attrs
from cattrs import Converter
from cattrs.gen import make_dict_unstructure_fn, override

from ncsnx.config.checks import FieldError, is_whole
from ncsnx.config.image_sizes import ImageSize, size_of_sides
from ncsnx.config.variants import (
    TAG,
    Config,
    is_family,
    is_omitted,
    plugin_errors,
    rest_field,
    saved_tag,
    saved_variant,
    tag_of,
    variants,
    version_fields,
)
from ncsnx.errors import AdvisedError, quoted
from ncsnx.quantities import counted

T = TypeVar("T")


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


def _of(cls: Any, word: str) -> str:
    return f"{word}{tag_of(cls) or cls.__name__}" if isinstance(cls, type) and issubclass(cls, Config) else ""


def _refused(expected: str, value: object, near: Sequence[str] = (), found: str = "", more: str = "") -> StructureError:
    """The error for a value that its declared type doesn't accept.

    near: accepted words, of which the message suggests the nearest. found: the value in words, if not by its type.
    more: end of the message.
    """
    complaint = f"expected {expected}, found {found or found_in_words(value)}{did_you_mean(value, near)}{more}"
    return StructureError([("", complaint)])


class _Collected:
    """The problems of an object's parts, told together: the first ones, since each takes time."""

    def __init__(self) -> None:
        self.errors: list[StructureError] = []

    @property
    def is_full(self) -> bool:
        return sum(len(error.problems) for error in self.errors) >= _MOST_TOLD

    def structure(self, value: Any, kind: Any, key: str | int | None) -> Any:
        """The value, or None after a problem. key: its place in the object; None: it has the object's own path."""
        try:
            return _converter.structure(value, kind)
        except StructureError as error:
            if key is not None:
                error.problems = [(_joined(inside("", key), path), complaint) for path, complaint in error.problems]
                error.missing = [_joined(inside("", key), path) for path in error.missing]
            self.errors.append(error)
            return None

    def require_none(self) -> None:
        """Raises the problems; only those of parts that are newer, if there are any, since these explain others."""
        newer = [problem for error in self.errors if isinstance(error, NewerVersionError) for problem in error.problems]
        if newer:
            raise NewerVersionError(newer)
        if self.errors:
            problems = [problem for error in self.errors for problem in error.problems][:_MOST_TOLD]
            raise StructureError(problems, missing=[path for error in self.errors for path in error.missing])


def _joined(path: str, inner: str) -> str:
    return f"{path}.{inner}" if inner and not inner.startswith("[") else f"{path}{inner}"


def structure(values: object, cls: type[T]) -> T:
    """The object of plain JSON values. Raises StructureError with the path of every problem."""
    return _converter.structure(values, cls)


def unstructure(value: Any) -> Any:
    """Plain JSON values of an object: every field written out, variants with their tag under 'type'.

    Raises ValueError if a key of a REST field has the name of another field.
    """
    return _converter.unstructure(value)


def optional_of(declared: Any) -> Any:
    """X for the declared type `X | None`, else None."""
    if get_origin(declared) in (Union, UnionType):
        others = [option for option in get_args(declared) if option is not NoneType]
        if len(others) < len(get_args(declared)):
            return reduce(or_, others)
    return None


_optional_of = cache(optional_of)


def _accepting(kind: type, expected: str) -> Callable[[Any, Any], Any]:
    """The hook of a type whose values are taken as they are. expected: these values in words."""

    def accept(value: Any, _: Any) -> Any:
        if type(value) is not kind:
            raise _refused(expected, value)
        return value

    return accept


def _structure_float(value: Any, _: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= sys.float_info.max:
        raise _refused("a finite number", value)
    return float(value) + 0.0  # -0.0 becomes 0.0, so that equal values have one identity


def _structure_literal(value: Any, literal: Any) -> Any:
    accepted = get_args(literal)
    if not any(type(value) is type(option) and value == option for option in accepted):
        words = [str(option) for option in accepted]
        expected = words[0] if len(words) == 1 else f"one of {', '.join(words)}"
        raise _refused(expected, value, words)
    return value


def _structure_optional(value: Any, declared: Any) -> Any:
    return None if value is None else _converter.structure(value, _optional_of(declared))


def _structure_tuple(value: Any, declared: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _refused("a list", value)
    kinds = get_args(declared)
    if kinds[1:] == (...,):
        kinds = (kinds[0],) * len(value)
    elif len(kinds) != len(value):
        raise _refused(f"a list of {counted(len(kinds), 'item')}", value)
    return tuple(_structure_each(zip(range(len(value)), value, kinds, strict=True)))


def _structure_image_size(value: Any, _: Any) -> ImageSize:
    if isinstance(value, list | tuple):
        return size_of_sides(_structure_tuple(value, tuple[int, int]))
    if not is_whole(value):
        raise _refused("a whole number, or a list of height and width", value)
    return int(value)


def _unstructure_sequence(value: Any) -> list[Any]:
    return [_converter.unstructure(item) for item in value]


def _structure_dict(value: Any, declared: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _refused("an object", value)
    _, kind = get_args(declared)
    if kind is Any:
        return dict(value)
    return dict(zip(value, _structure_each((key, one, kind) for key, one in value.items()), strict=True))


def _structure_each(items: Iterable[tuple[int | str, Any, Any]]) -> list[Any]:
    """Structures items of (place, value, type) and raises their problems together."""
    collected, done = _Collected(), list[Any]()
    for place, value, kind in items:
        if collected.is_full:
            break
        done.append(collected.structure(value, kind, place))
    collected.require_none()
    return done


def _structure_variant(value: Any, family: type[Config]) -> Any:
    broken = "".join(f"; {error}" for error in plugin_errors())  # loads plug-ins, whose variants count
    accepted = variants(family)
    if not isinstance(value, dict):
        raise _refused(f"one of {', '.join(accepted)}", value)
    tag = value.get(TAG)
    cls = saved_variant(family, value) if TAG not in value or isinstance(tag, str) else None
    if cls is None:
        found = f"type {quoted(tag)}" if TAG in value else "an object without a type (no registered variant)"
        raise _refused(f"one of {', '.join(accepted)}", tag, list(accepted), found, broken)
    return _converter.structure({key: held for key, held in value.items() if key != TAG}, cls)


def _structure_class(cls: type[Any]) -> Callable[[Any, Any], Any]:
    fields, rest = [field for field in attrs.fields(attrs.resolve_types(cls)) if field.init], rest_field(cls)
    names = {field.name for field in fields}

    def structure_class(value: Any, _: Any) -> Any:
        if not isinstance(value, dict):
            raise _refused("an object", value)
        _require_version(value, cls)
        if rest is not None:
            others = {key: held for key, held in value.items() if key not in names or key == rest}
            value = {**{key: held for key, held in value.items() if key not in others}, rest: others}
        collected, given = _Collected(), dict[str, Any]()
        for field in fields:
            if field.name in value:
                key = None if field.name == rest else field.name
                given[field.alias] = collected.structure(value[field.name], field.type, key)
            elif field.default is attrs.NOTHING:
                complaint = f"is required{_of(cls, ' by ')}, but missing"
                collected.errors.append(StructureError([(field.name, complaint)], missing=[field.name]))
        for key in sorted(value.keys() - names)[:_MOST_TOLD]:
            collected.errors.append(StructureError([(inside("", key), unknown_key(key, cls))]))
        collected.require_none()
        try:
            return cls(**given)
        except FieldError as error:
            raise StructureError([(error.field, error.complaint)]) from error
        except (TypeError, ValueError) as error:
            raise StructureError([("", str(error))]) from error

    return structure_class


def _require_version(values: dict[str, Any], cls: type[Any]) -> None:
    """Raises StructureError for an invalid version, NewerVersionError for one of a newer ncsnx."""
    for field in version_fields(cls):
        version, newest = values.get(field.name, field.default), field.default
        assert isinstance(newest, int)
        if type(version) is int and version > newest:
            what = f"is {quoted(version)}, newer than this ncsnx reads ({newest})"
            raise NewerVersionError([(field.name, what)])
        if type(version) is not int or version != newest:
            raise StructureError([(field.name, f"expected {newest}, found {quoted(version)}")])


def _unstructure_class(cls: type[Any]) -> Callable[[Any], dict[str, Any]]:
    # by the value's own class, so that a field declared as a family keeps the fields of its variant
    by_value = {field.name: override(unstruct_hook=_converter.unstructure) for field in attrs.fields(cls)}
    dump = make_dict_unstructure_fn(cls, _converter, **by_value)  # type: ignore[arg-type]
    rest = rest_field(cls)
    may_be_omitted = [field for field in attrs.fields(cls) if "omitted" in field.metadata]
    tag = saved_tag(cls)

    def unstructure_class(value: Any) -> dict[str, Any]:
        values: dict[str, Any] = {**({} if tag is None else {TAG: tag}), **dump(value)}
        for field in may_be_omitted:
            if is_omitted(field, value):
                del values[field.name]
        if rest is not None:
            others = values[rest]
            if twice := sorted(others.keys() & values.keys() - {rest}):
                raise ValueError(f"{cls.__name__}.{rest} contains {quoted(twice[0])}, which is another field")
            values = {inner: held for key in values for inner, held in _beside(key, values[key], rest)}
        return values

    return unstructure_class


def _beside(key: str, value: Any, rest: str) -> Iterable[tuple[str, Any]]:
    return value.items() if key == rest else [(key, value)]


def _has_origin(origin: Any) -> Callable[[Any], bool]:
    return lambda declared: get_origin(declared) is origin


def _make_converter() -> Converter:
    converter = Converter(detailed_validation=False)
    converter.register_structure_hook(bool, _accepting(bool, "true or false"))
    converter.register_structure_hook(int, _accepting(int, "a whole number"))
    converter.register_structure_hook(float, _structure_float)
    converter.register_structure_hook(str, _accepting(str, "text"))
    converter.register_structure_hook_func(_has_origin(Literal), _structure_literal)
    converter.register_structure_hook_func(_has_origin(tuple), _structure_tuple)
    converter.register_structure_hook_func(lambda t: t == ImageSize, _structure_image_size)
    converter.register_structure_hook_func(_has_origin(dict), _structure_dict)
    converter.register_structure_hook_func(lambda t: optional_of(t) is not None, _structure_optional)
    converter.register_structure_hook_factory(attrs.has, _structure_class)
    converter.register_structure_hook_func(is_family, _structure_variant)
    converter.register_unstructure_hook_factory(attrs.has, _unstructure_class)
    converter.register_unstructure_hook(tuple, _unstructure_sequence)
    return converter


_converter = _make_converter()
