"""Families of variants: 'an optimizer' is Adam, RMSProp or SGD, told apart by a short stable tag.

A family is a base class; a variant registers itself under it with `@variant(Family, "tag")`. The tag, never the class
path, is what is saved, so that a class may be renamed or moved. Installed packages add variants the same way from the
module that their `ncsnx.config` entry point names.
"""

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import TypeVar

import attrs

from ncsnx.config.foreign import ForeignError, error_in_words, foreign_code
from ncsnx.config.provenance import is_recording, record
from ncsnx.errors import NcsnxError

T = TypeVar("T", bound="type[Config]")

TAG = "type"
"""The key that holds a variant's tag in the saved form."""

OUTSIDE_IDENTITY = {"identity": False}
"""Metadata of a field that doesn't determine the trained weights, such as a path or a cadence."""

NONE_AT_ZERO = {"none_at_zero": True}
"""Metadata of a count of which 0 would mean that there is none of the part that the field belongs to."""

_families: "dict[type[Config], dict[str, type[Config]]]" = {}
_tags: "dict[type[Config], str]" = {}


@attrs.frozen(kw_only=True)
class Config:
    """Base of every configuration class: frozen data, and nothing else."""

    def __attrs_post_init__(self) -> None:
        record(self)


def variant(family: type[Config], tag: str) -> Callable[[T], T]:
    """Class decorator: registers a configuration class as the variant `tag` of `family`.

    Raises ValueError where another class already holds the tag, and NcsnxError in an experiment file: a saved run must
    be readable without it.
    """
    if is_recording():
        raise NcsnxError(
            f"the variant {tag!r} cannot come from an experiment file; put it into a module of an "
            f"installed package and "
            "name that module by an entry point of the group ncsnx.config"
        )

    def register_variant(cls: T) -> T:
        held = _families.setdefault(family, {}).setdefault(tag, cls)
        if held is not cls:
            raise ValueError(f"{family.__name__} already has a variant {tag!r}: {held.__qualname__}")
        _tags[cls] = tag
        return cls

    return register_variant


def is_family(cls: object) -> bool:
    """Whether `cls` is the base class of a family."""
    return isinstance(cls, type) and cls in _families


def variants(family: type[Config]) -> dict[str, type[Config]]:
    """Tag → class, in the order of registration."""
    return dict(_families[family])


def tag_of(cls: type[Config]) -> str | None:
    """The tag of a variant; None for a class that is no variant."""
    return _tags.get(cls)


_plugin_errors: dict[str, list[str]] = {}


def plugin_errors(group: str = "ncsnx.config") -> list[str]:
    """Imports the modules that installed packages name under the entry-point group `group`, once.

    `ncsnx.config` modules register variants and must not import torch; `ncsnx.runtime` modules register what builds
    networks, data and samplers from them. Returns one line for each that can't be loaded: it breaks no other.
    """
    if group not in _plugin_errors:
        errors = _plugin_errors[group] = []
        for entry in entry_points(group=group):
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
    """Does what `plugin_errors` does, and raises NcsnxError with its lines if there are any."""
    if errors := plugin_errors(group):
        raise NcsnxError("; ".join(errors))
