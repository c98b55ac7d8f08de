"""Families of variants: an optimizer is Adam, RMSProp or SGD, each with a short stable tag.

A family is a base class; a variant registers itself with `@variant(Family, "tag")`. The tag is saved, never the class
path, so that a class may be renamed or moved. Installed packages add variants the same way, in the module that their
`ncsnx.config` entry point names.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import attrs

from ncsnx.config.origins import is_default, registered_by_file
from ncsnx.config.user_code import ForeignError, error_in_words, foreign_code
from ncsnx.errors import Hint, NcsnxError
from ncsnx.registering import entry_points_of

T = TypeVar("T", bound="type[Config]")

TAG = "type"
"""Key of a variant's tag in the saved form."""

OUTSIDE_IDENTITY = {"identity": False}
"""Metadata of a field that doesn't determine the trained weights, such as a path or an interval. A function in place
of False says of a configuration object whether it does."""

OUTSIDE_IDENTITY_AT_DEFAULT = {"outside_identity_at_default": True}
"""Metadata of a field that is newer than its class, and whose default reproduces the earlier behavior: the default is
left out of the identity, so that earlier experiments keep theirs, and with it the hashes in their checkpoints."""

_families: "dict[type[Config], dict[str, type[Config]]]" = {}
_tags: "dict[type[Config], str]" = {}
_untagged: "dict[type[Config], type[Config]]" = {}


@attrs.frozen(kw_only=True)
class Config:
    """Base of every configuration class: frozen data and nothing else."""

    def _repr_html_(self) -> str:
        from ncsnx.notebooks import heading, html_table

        rows = [(path, value, "default" if by_default else "") for path, value, by_default in described_values(self)]
        return heading(type(self).__name__) + html_table(("field", "value", ""), rows, ("left", "left", "left"))


def described_values(config: Config) -> Iterator[tuple[str, str, bool]]:
    """(dotted path, value as text, whether it is the default) for every field, down to the parts of parts."""
    for field in attrs.fields(type(config)):
        value = getattr(config, field.name)
        by_default = is_default(field, value)
        if isinstance(value, Config):
            yield field.name, tag_of(type(value)) or "", by_default
            yield from ((f"{field.name}.{path}", text, inner) for path, text, inner in described_values(value))
        else:
            yield field.name, value if isinstance(value, str) else repr(value), by_default


def variant(family: type[Config], tag: str, *, untagged: bool = False) -> Callable[[T], T]:
    """Class decorator: registers a configuration class as the variant `tag` of `family`.

    untagged: whether it is saved without its tag, as it was before the family had other variants.

    Raises ValueError if another class already has the tag, and NcsnxError in an experiment file, since a saved run must
    be readable without that file.
    """
    if registered_by_file() is not None:
        raise NcsnxError(
            f"an experiment file cannot register a variant ({tag!r})",
            Hint("move it to a module of an installed package that an entry point of the group ncsnx.config names"),
        )

    def register_variant(cls: T) -> T:
        held = _families.setdefault(family, {}).setdefault(tag, cls)
        if held is not cls:
            raise ValueError(f"{family.__name__} already has a variant {tag!r}: {held.__qualname__}")
        _tags[cls] = tag
        if untagged:
            _untagged[family] = cls
        return cls

    return register_variant


def saved_variant(family: type[Config], values: dict[str, Any]) -> "type[Config] | None":
    """The variant of saved values, by their tag; None for an unknown one."""
    return _families.get(family, {}).get(values[TAG]) if TAG in values else _untagged.get(family)


def saved_tag(cls: type[Config]) -> str | None:
    """The tag that a variant is saved with; None for the untagged one and for other classes."""
    return None if cls in _untagged.values() else _tags.get(cls)


def is_family(cls: object) -> bool:
    """Whether `cls` is the base class of a family."""
    return isinstance(cls, type) and cls in _families


def variants(family: type[Config]) -> dict[str, type[Config]]:
    """Tag → class, in the order of registration."""
    return dict(_families[family])


def tag_of(cls: type[Config]) -> str | None:
    """The tag of a variant; None for other classes."""
    return _tags.get(cls)


_plugin_errors: dict[str, list[str]] = {}


def plugin_errors(group: str = "ncsnx.config") -> list[str]:
    """Imports, once, the modules that installed packages name by entry points of `group`.

    Modules of `ncsnx.config` register variants and must not import torch; modules of `ncsnx.runtime` register the
    networks, data sets and samplers that are built from them. Returns one line per module that can't be loaded, which
    doesn't affect the others.
    """
    if group not in _plugin_errors:
        errors = _plugin_errors[group] = []
        for entry in entry_points_of(group):
            try:
                with foreign_code():
                    entry.load()
            except ForeignError as raised:
                package = entry.dist.name if entry.dist is not None else "an installed package"
                errors.append(
                    f"the plug-in {entry.name!r} of {package} ({entry.value}) cannot be loaded: "
                    f"{error_in_words(raised.error)}; repair or uninstall {package}"
                )
    return _plugin_errors[group]


def load_plugins(group: str) -> None:
    """Imports the modules of `group` as `plugin_errors` does. Raises NcsnxError if one can't be loaded."""
    if errors := plugin_errors(group):
        raise NcsnxError("; ".join(errors))


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
    return "omitted" in field.metadata and is_default(field, getattr(owner, field.name))
