"""The saved form of an experiment: strict JSON with a version, tags for variants, and every default written out.

Strict: `"false"` is no boolean, 3.7 no integer; NaN, unknown keys and unknown tags are refused. Every complaint
names the full path of the value, what was given and what is accepted.
"""

import sys
from collections.abc import Callable
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import attrs
from cattrs import (
    AttributeValidationNote,
    BaseValidationError,
    ClassValidationError,
    Converter,
    ForbiddenExtraKeysError,
    IterableValidationNote,
)
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from ncsnx.config.canonical import digest
from ncsnx.config.checks import FieldError, quoted
from ncsnx.config.experiment import Experiment
from ncsnx.config.variants import TAG, Config, is_family, plugin_errors, tag_of, variants
from ncsnx.errors import NcsnxError

T = TypeVar("T", bound=Config)

CONFIG_VERSION = 1
_SAVED_KEYS = ("schema_version", "experiment")

Migration = Callable[[dict[str, Any]], dict[str, Any]]
MIGRATIONS: dict[int, Migration] = {}
"""Version n → a pure function from the experiment's dict of version n to that of version n + 1."""


class ConfigError(NcsnxError):
    """A configuration that isn't one: `problems` has a (path, complaint) for each thing that is wrong with it."""

    def __init__(self, problems: list[tuple[str, str]], where: str = "") -> None:
        self.problems = problems
        lines = "; ".join(f"{path}: {complaint}" if path else complaint for path, complaint in problems)
        super().__init__(f"{where}: {lines}" if where else lines)


def to_json(experiment: Experiment) -> dict[str, Any]:
    """The saved form: `{"schema_version": 1, "experiment": {…}}`."""
    return {"schema_version": CONFIG_VERSION, "experiment": unstructure(experiment)}


def from_json(saved: object) -> Experiment:
    """The experiment of a saved form of this or an earlier version. Raises ConfigError, also for newer versions."""
    if not isinstance(saved, dict) or "schema_version" not in saved:
        found = f"the keys {', '.join(map(str, saved)) or 'none'}" if isinstance(saved, dict) else _kind(saved)
        raise ConfigError([("", f"expected an object with schema_version and experiment, found {found}")])
    version = saved["schema_version"]
    if type(version) is not int or version < 1:
        raise ConfigError([("schema_version", f"expected a whole number from 1 on, found {quoted(version)}")])
    if version > CONFIG_VERSION:
        raise ConfigError(
            [
                (
                    "schema_version",
                    f"is {quoted(version)}, newer than this ncsnx reads ({CONFIG_VERSION}); update ncsnx",
                )
            ]
        )
    if unknown := [(str(key), "no such field in a saved experiment") for key in saved if key not in _SAVED_KEYS]:
        raise ConfigError(unknown)
    values = saved.get("experiment")
    if not isinstance(values, dict):
        raise ConfigError([("experiment", f"expected an object, found {_found(values)}")])
    for step in range(version, CONFIG_VERSION):
        values = MIGRATIONS[step](values)
    return structure(values, Experiment)


def unstructure(config: Config) -> dict[str, Any]:
    """A configuration object as plain JSON values, every field written out, variants with their tag under 'type'."""
    values: dict[str, Any] = _converter.unstructure(config)
    return values


def structure(values: dict[str, Any], cls: type[T]) -> T:
    """The configuration object of plain JSON values. Raises ConfigError with every problem's path."""
    plugin_errors()  # loads them: their variants may be among the values
    try:
        return _converter.structure(values, cls)
    except (BaseValidationError, _RefusedError) as error:
        raise ConfigError(_problems(error, cls, "")) from error


def identity(experiment: Experiment) -> str:
    """sha256 (hexadecimal) of what determines the trained weights.

    Computed from the canonical JSON after a round trip, so that 1 and 1.0 count as the same float.
    """
    return digest(_identifying(structure(unstructure(experiment), Experiment)))


def identifying_paths(experiment: Experiment) -> set[str]:
    """The dotted paths of all values that are part of the identity."""
    return {path for path, _ in flatten(_identifying(experiment))}


def flatten(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested values as (dotted path, value) rows; a variant's tag stands at the path of the variant itself."""
    rows: list[tuple[str, Any]] = []
    for key, value in values.items():
        path = f"{prefix}.{key}" if prefix else key
        if key == TAG:
            rows.insert(0, (prefix, value))
        elif isinstance(value, dict):
            rows.extend(flatten(value, path))
        else:
            rows.append((path, value))
    return rows


def _identifying(config: Config) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if (tag := tag_of(type(config))) is not None:
        values[TAG] = tag
    for field in attrs.fields(type(config)):
        if field.metadata.get("identity", True):
            value = getattr(config, field.name)
            values[field.name] = _identifying(value) if isinstance(value, Config) else _converter.unstructure(value)
    return values


# ------------------------------------------------------------------------------------------ strict conversion


class _RefusedError(Exception):
    """A value that its declared type doesn't accept."""


def _kind(value: object) -> str:
    names = {bool: "boolean", int: "integer", float: "number", str: "text", NoneType: "none", dict: "object"}
    return names.get(type(value), "list" if isinstance(value, list | tuple) else type(value).__name__)


def _found(value: object) -> str:
    if isinstance(value, type):
        return f"the class itself; write {value.__name__}(…)"
    return "none" if value is None else f"{_kind(value)} {quoted(value)}"


def _refuse(expected: str, value: object) -> _RefusedError:
    return _RefusedError(f"expected {expected}, found {_found(value)}")


def _structure_bool(value: Any, _: Any) -> bool:
    if not isinstance(value, bool):
        raise _refuse("true or false", value)
    return value


def _structure_int(value: Any, _: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _refuse("a whole number", value)
    return value


def _structure_float(value: Any, _: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= sys.float_info.max:
        raise _refuse("a finite number", value)
    return float(value) + 0.0  # -0.0 becomes 0.0: equal values must have one identity


def _structure_str(value: Any, _: Any) -> str:
    if not isinstance(value, str):
        raise _refuse("text", value)
    return value


def _structure_literal(value: Any, literal: Any) -> Any:
    accepted = get_args(literal)
    if not any(type(value) is type(option) and value == option for option in accepted):
        near = get_close_matches(str(value), [str(option) for option in accepted], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise _RefusedError(f"expected one of {', '.join(map(str, accepted))}, found {_found(value)}{hint}")
    return value


def optional_of(declared: Any) -> Any:
    """X for the declared type `X | None`, else None."""
    if get_origin(declared) in (Union, UnionType):
        others = [option for option in get_args(declared) if option is not NoneType]
        if len(others) == 1 and len(get_args(declared)) == 2:
            return others[0]
    return None


def _structure_optional(value: Any, declared: Any) -> Any:
    return None if value is None else _converter.structure(value, optional_of(declared))


def _structure_variant(value: Any, family: type[Config]) -> Any:
    accepted = variants(family)
    if not isinstance(value, dict):
        raise _refuse(f"one of {', '.join(accepted)}", value)
    tag = value.get(TAG)
    if not isinstance(tag, str) or tag not in accepted:
        found = f"type {quoted(tag)}" if TAG in value else "an object without a type, so of no registered variant"
        broken = "".join(f"; {error}" for error in plugin_errors())
        near = get_close_matches(str(tag), accepted, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise _RefusedError(f"expected one of {', '.join(accepted)}, found {found}{hint}{broken}")
    return _converter.structure({key: held for key, held in value.items() if key != TAG}, accepted[tag])


def _structure_class(cls: type[Config]) -> Callable[[Any, Any], Any]:
    fill = make_dict_structure_fn(cls, _converter, _cattrs_forbid_extra_keys=True, _cattrs_detailed_validation=True)

    def structure_class(value: Any, declared: Any) -> Any:
        if not isinstance(value, dict):
            raise _refuse(f"{cls.__name__}({', '.join(f'{field.name}=…' for field in attrs.fields(cls))})", value)
        return fill(value, declared)

    return structure_class


def _unstructure_class(cls: type[Config]) -> Callable[[Any], dict[str, Any]]:
    # by the value's own class, so that a field declared as a family keeps all of its variant's fields
    by_value = {field.name: override(unstruct_hook=_converter.unstructure) for field in attrs.fields(cls)}
    dump = make_dict_unstructure_fn(cls, _converter, **by_value)  # type: ignore[arg-type]

    def unstructure_class(config: Any) -> dict[str, Any]:
        tag = tag_of(type(config))
        return {**({} if tag is None else {TAG: tag}), **dump(config)}

    return unstructure_class


def _is_config(declared: Any) -> bool:
    return isinstance(declared, type) and issubclass(declared, Config)


def _is_literal(declared: Any) -> bool:
    origin: Any = get_origin(declared)
    return origin is Literal


def _make_converter() -> Converter:
    converter = Converter(forbid_extra_keys=True, detailed_validation=True)
    converter.register_structure_hook(bool, _structure_bool)
    converter.register_structure_hook(int, _structure_int)
    converter.register_structure_hook(float, _structure_float)
    converter.register_structure_hook(str, _structure_str)
    converter.register_structure_hook_func(_is_literal, _structure_literal)
    converter.register_structure_hook_func(lambda t: optional_of(t) is not None, _structure_optional)
    converter.register_structure_hook_factory(_is_config, _structure_class)
    converter.register_structure_hook_func(is_family, _structure_variant)
    converter.register_unstructure_hook_factory(_is_config, _unstructure_class)
    return converter


_converter = _make_converter()


# ------------------------------------------------------------------------------------------------ complaints


def _problems(error: BaseException, cls: Any, path: str) -> list[tuple[str, str]]:
    """Every leaf of cattrs' tree of errors as (path, complaint)."""
    if isinstance(error, BaseValidationError):
        found: list[tuple[str, str]] = []
        for inner in error.exceptions:
            owner = error.cl if isinstance(error, ClassValidationError) else cls
            found.extend(_problems(inner, owner, _extended(path, inner)))
        return found
    if isinstance(error, ForbiddenExtraKeysError):
        return [(f"{path}.{key}" if path else key, unknown_key(key, error.cl)) for key in sorted(error.extra_fields)]
    if isinstance(error, KeyError):
        return [(path, f"is required{_of(cls)}, but missing")]
    if isinstance(error, FieldError):
        return [(f"{path}.{error.field}" if path else error.field, error.complaint)]
    return [(path, str(error))]


def _extended(path: str, error: BaseException) -> str:
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            return f"{path}.{note.name}" if path else note.name
        if isinstance(note, IterableValidationNote):
            return f"{path}[{note.index}]"
    return path


def _of(cls: Any) -> str:
    return f" by {tag_of(cls) or cls.__name__}" if _is_config(cls) else ""


def unknown_key(key: str, cls: Any) -> str:
    """The complaint about a field that `cls` doesn't have, with the nearest that it has."""
    fields = [field.name for field in attrs.fields(cls)]
    near = get_close_matches(key, fields, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(fields)}"
    return f"no such field{_of(cls).replace(' by', ' in')}; {hint}"
