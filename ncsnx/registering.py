"""Modules that register what they hold when they are imported, found by their folder."""

import importlib
import pkgutil
from functools import cache


@cache
def import_modules_of(package: str) -> None:
    """Imports every module of a package, such as 'ncsnx.metrics', once in a process."""
    folder = importlib.import_module(package)
    for module in pkgutil.iter_modules(folder.__path__, f"{package}."):
        importlib.import_module(module.name)
