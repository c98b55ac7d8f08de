"""What a class declares of a field beside its type, as metadata: what is open, what may be left out, what is a version.

A field declared as `dict[str, Any]` is open: its keys are anybody's. Every other key that isn't declared is refused.
"""

from collections.abc import Callable, Mapping
from typing import Any

import attrs

Migration = Callable[[dict[str, Any]], dict[str, Any]]
"""A pure function from an object of version n to that of version n + 1."""

REST = {"rest": True}
"""Of a `dict`: it holds all keys of its object that no other field has; in the JSON they stand beside those."""

OMITTED = {"omitted": True}
"""Of a field with a default: it isn't written where it has that value."""


def versioned(migrations: Mapping[int, Migration] | None = None, *, since: int = 1) -> dict[str, Any]:
    """Of the number of the form that an object has, whose default is the newest.

    migrations: version n → the migration of the whole object to version n + 1. since: the first version that was
    written with its number; an object without a number is of the one before.
    """
    return {"migrations": migrations or {}, "since": since}


def inside_of(key: str, migrations: Mapping[int, Migration]) -> dict[int, Migration]:
    """Migrations of what is under `key` as those of the object that holds it."""

    def lifted(migration: Migration) -> Migration:
        return lambda values: {**values, key: migration(values[key])}

    return {version: lifted(migration) for version, migration in migrations.items()}


def rest_field(cls: Any) -> str | None:
    """The name of the field with REST; None where there is none."""
    return next((field.name for field in attrs.fields(cls) if "rest" in field.metadata), None)


def version_fields(cls: Any) -> list["attrs.Attribute[int]"]:
    """The fields that hold a version, in their order."""
    return [field for field in attrs.fields(cls) if "migrations" in field.metadata]


def is_omitted(field: "attrs.Attribute[Any]", owner: Any) -> bool:
    """Whether a field is left out when `owner`, the object that has it, is written."""
    value: Any = getattr(owner, field.name)
    default: Any = field.default
    if "since" in field.metadata:
        return bool(value < field.metadata["since"])
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]  # a class, which its stub calls a function
        default = default.factory(owner) if default.takes_self else default.factory()
    return "omitted" in field.metadata and bool(value == default)
