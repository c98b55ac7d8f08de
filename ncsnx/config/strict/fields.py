"""Metadata of fields for the strict converter: remaining keys, omitted defaults, versions.

A field declared as `dict[str, Any]` accepts any keys. Elsewhere, keys that aren't declared are refused.
"""

from collections.abc import Callable, Mapping
from typing import Any

import attrs

Migration = Callable[[dict[str, Any]], dict[str, Any]]
"""A pure function from an object of version n to that of version n + 1."""

REST = {"rest": True}
"""Metadata of a `dict` field that takes all keys of the JSON object that no other field has."""

OMITTED = {"omitted": True}
"""Metadata of a field that isn't written while it has its default."""


def versioned(migrations: Mapping[int, Migration] | None = None, *, since: int = 1) -> dict[str, Any]:
    """Metadata of a field with the version of its object's form; its default is the newest version.

    migrations: version n → the migration of the whole object to version n + 1. since: the first version that was
    written with its number; an object without a number has version `since` − 1.
    """
    return {"migrations": migrations or {}, "since": since}


def inside_of(key: str, migrations: Mapping[int, Migration]) -> dict[int, Migration]:
    """Migrations of the value at `key`, as migrations of the object that contains it."""

    def lifted(migration: Migration) -> Migration:
        return lambda values: {**values, key: migration(values[key])}

    return {version: lifted(migration) for version, migration in migrations.items()}


def rest_field(cls: Any) -> str | None:
    """The name of the field with REST, or None."""
    return next((field.name for field in attrs.fields(cls) if "rest" in field.metadata), None)


def version_fields(cls: Any) -> list["attrs.Attribute[int]"]:
    """The fields with a version, in order."""
    return [field for field in attrs.fields(cls) if "migrations" in field.metadata]


def is_omitted(field: "attrs.Attribute[Any]", owner: Any) -> bool:
    """Whether a field is omitted when `owner`, the object that has it, is written."""
    value: Any = getattr(owner, field.name)
    default: Any = field.default
    if "since" in field.metadata:
        return bool(value < field.metadata["since"])
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]  # a class, which its stub calls a function
        default = default.factory(owner) if default.takes_self else default.factory()
    return "omitted" in field.metadata and bool(value == default)
