"""Metadata of fields for the strict converter: remaining keys, omitted defaults, versions.

A field declared as `dict[str, Any]` accepts any keys. Elsewhere, keys that aren't declared are refused.
"""

from typing import Any

import attrs

REST = {"rest": True}
"""Metadata of a `dict` field that takes all keys of the JSON object that no other field has."""

OMITTED = {"omitted": True}
"""Metadata of a field that isn't written while it has its default."""

VERSION = {"version": True}
"""Metadata of a field with the version of its object's form; its default is the version that is read."""


def rest_field(cls: Any) -> str | None:
    """The name of the field with REST, or None."""
    return next((field.name for field in attrs.fields(cls) if "rest" in field.metadata), None)


def version_fields(cls: Any) -> list["attrs.Attribute[int]"]:
    """The fields with a version, in order."""
    return [field for field in attrs.fields(cls) if "version" in field.metadata]


def is_omitted(field: "attrs.Attribute[Any]", owner: Any) -> bool:
    """Whether a field is omitted when `owner`, the object that has it, is written."""
    value: Any = getattr(owner, field.name)
    default: Any = field.default
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]  # a class, which its stub calls a function
        default = default.factory(owner) if default.takes_self else default.factory()
    return "omitted" in field.metadata and bool(value == default)
