"""Optional packages, imported where a model needs them: they take seconds."""

import importlib
from typing import Any

from ncsnx.errors import UsageError, install_hint


def required(module: str, extra: str, what: str) -> Any:
    """The module of an optional package. what: the subject of the error. Raises UsageError if it isn't installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(f"{what} needs the extra {extra} ({error})", install_hint(extra)) from error
