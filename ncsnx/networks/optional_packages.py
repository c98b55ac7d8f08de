"""Optional packages, imported where a model needs them: they take seconds."""

import importlib
from typing import Any

from ncsnx.errors import Hint, UsageError


def required(module: str, extra: str, what: str) -> Any:
    """The module of an optional package. what: the subject of the error. Raises UsageError if it isn't installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        hint = Hint("install it, in a clone of ncsnx", f"pip install '.[{extra}]'")
        raise UsageError(f"{what} needs the extra {extra} ({error})", hint) from error
