"""The strict converter from JSON values to frozen attrs classes and back. It doesn't import torch.

`"false"` isn't a boolean, 3.7 not an integer, `"abc"` not a list of text; NaN, unknown keys and unknown tags are
refused. Values declared as Any are accepted as they are.
"""

import sys
from collections.abc import Callable, Iterable
from functools import cache, reduce
from operator import or_
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import attrs
from cattrs import BaseValidationError, Converter, IterableValidationError, IterableValidationNote
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from ncsnx.config.checks import is_whole
from ncsnx.config.complaints import (
    NewerVersionError,
    RefusedError,
    StructureError,
    structure_error,
)
from ncsnx.config.image_sizes import ImageSize, size_of_sides
from ncsnx.config.variants import (
    TAG,
    Config,
    is_family,
    is_omitted,
    plugin_errors,
    rest_field,
    tag_of,
    variants,
    version_fields,
)
from ncsnx.errors import quoted
from ncsnx.quantities import counted

T = TypeVar("T")


def structure(values: object, cls: type[T]) -> T:
    """The object of plain JSON values. Raises StructureError with the path of every problem."""
    try:
        return _converter.structure(values, cls)
    except (BaseValidationError, RefusedError) as error:
        raise structure_error(error, cls) from error


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
            raise RefusedError(expected, value)
        return value

    return accept


def _structure_float(value: Any, _: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= sys.float_info.max:
        raise RefusedError("a finite number", value)
    return float(value) + 0.0  # -0.0 becomes 0.0, so that equal values have one identity


def _structure_literal(value: Any, literal: Any) -> Any:
    accepted = get_args(literal)
    if not any(type(value) is type(option) and value == option for option in accepted):
        words = [str(option) for option in accepted]
        expected = words[0] if len(words) == 1 else f"one of {', '.join(words)}"
        raise RefusedError(expected, value, words)
    return value


def _structure_optional(value: Any, declared: Any) -> Any:
    return None if value is None else _converter.structure(value, _optional_of(declared))


def _structure_tuple(value: Any, declared: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise RefusedError("a list", value)
    kinds = get_args(declared)
    if kinds[1:] == (...,):
        kinds = (kinds[0],) * len(value)
    elif len(kinds) != len(value):
        raise RefusedError(f"a list of {counted(len(kinds), 'item')}", value)
    return tuple(_structure_each(zip(range(len(value)), value, kinds, strict=True), declared))


def _structure_image_size(value: Any, _: Any) -> ImageSize:
    if isinstance(value, list | tuple):
        return size_of_sides(_structure_tuple(value, tuple[int, int]))
    if not is_whole(value):
        raise RefusedError("a whole number, or a list of height and width", value)
    return int(value)


def _unstructure_sequence(value: Any) -> list[Any]:
    return [_converter.unstructure(item) for item in value]


def _structure_dict(value: Any, declared: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RefusedError("an object", value)
    _, kind = get_args(declared)
    if kind is Any:
        return dict(value)
    return dict(zip(value, _structure_each(((key, one, kind) for key, one in value.items()), declared), strict=True))


def _structure_each(items: Iterable[tuple[int | str, Any, Any]], declared: Any) -> list[Any]:
    """Structures items of (place, value, type) and raises all their problems together."""
    done, errors = [], []
    for place, value, kind in items:
        try:
            done.append(_converter.structure(value, kind))
        except (BaseValidationError, RefusedError, StructureError) as error:
            error.add_note(IterableValidationNote("", place, kind))
            errors.append(error)
    if errors:
        raise IterableValidationError("", errors, declared)
    return done


def _structure_variant(value: Any, family: type[Config]) -> Any:
    broken = "".join(f"; {error}" for error in plugin_errors())  # loads plug-ins, whose variants count
    accepted = variants(family)
    if not isinstance(value, dict):
        raise RefusedError(f"one of {', '.join(accepted)}", value)
    tag = value.get(TAG)
    if not isinstance(tag, str) or tag not in accepted:
        found = f"type {quoted(tag)}" if TAG in value else "an object without a type (no registered variant)"
        raise RefusedError(f"one of {', '.join(accepted)}", tag, list(accepted), found, broken)
    return _converter.structure({key: held for key, held in value.items() if key != TAG}, accepted[tag])


def _structure_class(cls: type[Any]) -> Callable[[Any, Any], Any]:
    fill = make_dict_structure_fn(cls, _converter, _cattrs_forbid_extra_keys=True, _cattrs_detailed_validation=True)
    names, rest = [field.name for field in attrs.fields(cls)], rest_field(cls)

    def structure_class(value: Any, declared: Any) -> Any:
        if not isinstance(value, dict):
            raise RefusedError("an object", value)
        _require_version(value, cls)
        if rest is not None:
            others = {key: held for key, held in value.items() if key not in names or key == rest}
            value = {**{key: held for key, held in value.items() if key not in others}, rest: others}
        return fill(value, declared)

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
    tag = tag_of(cls)

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
    converter = Converter(forbid_extra_keys=True, detailed_validation=True)
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
