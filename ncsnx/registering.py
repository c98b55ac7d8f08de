"""Registration by import: modules register their parts when they are imported."""

import importlib
import os
import pkgutil
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
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
    """The entry points of a group, such as 'ncsnx.config', of all installed packages.

    importlib.metadata is imported only where a package may have some: it takes a tenth of the time of `ncsnx list`.
    """
    if not _may_exist(group.encode()):
        return ()
    from importlib.metadata import entry_points

    return entry_points(group=group)


def _may_exist(group: bytes) -> bool:
    """Whether the metadata of an installed package has the group's name, or some isn't in a folder of the path."""
    if any(hasattr(finder, "find_distributions") and finder is not PathFinder for finder in sys.meta_path):
        return True
    for folder in map(Path, sys.path):
        with suppress(OSError):
            if folder.is_file():  # a zip
                return True
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.lower().endswith((".dist-info", "egg-info")):
                    with suppress(OSError):
                        if group in Path(entry, "entry_points.txt").read_bytes():
                            return True
    return False


def unregistered(what: str, config: type, decorator: str) -> NcsnxError:
    """The error for a configuration class without an implementation.

    what: kind of implementation, such as 'network'; decorator: full name of the decorator that registers one.
    """
    return NcsnxError(
        f"no {what} is registered for {config.__name__}: the package that defines it must name a module with "
        f"@{decorator}({config.__name__}) by an entry point of the group ncsnx.runtime"
    )
