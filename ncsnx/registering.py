"""Registration by import: modules register their parts when they are imported."""

import importlib
import pkgutil
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

from ncsnx.errors import NcsnxError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


@cache
def import_modules_of(package: str) -> None:
    """Imports every module of a package, such as 'ncsnx.metrics', once per process."""
    folder = importlib.import_module(package)
    for module in pkgutil.iter_modules(folder.__path__, f"{package}."):
        importlib.import_module(module.name)


def entry_points_of(group: str) -> "Iterable[EntryPoint]":
    """The entry points of a group, such as 'ncsnx.config', of all installed packages."""
    from importlib.metadata import entry_points

    return entry_points(group=group)


def unregistered(what: str, config: type, decorator: str) -> NcsnxError:
    """The error for a configuration class without an implementation.

    what: kind of implementation, such as 'network'; decorator: full name of the decorator that registers one.
    """
    return NcsnxError(
        f"no {what} is registered for {config.__name__}: the package that defines it must name a module with "
        f"@{decorator}({config.__name__}) by an entry point of the group ncsnx.runtime"
    )
