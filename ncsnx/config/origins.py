"""Origins of an experiment's values, and the experiments that a file registers while it is executed."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import attrs

DEFAULT = "default"
COMMAND_LINE = "command line"
PYTHON = "Python"
"""Origin of a value that was given in a program or a notebook."""


def is_default(field: "attrs.Attribute[Any]", value: object) -> bool:
    """Whether a value equals the field's default, with the same type."""
    default: Any = field.default
    factory = getattr(default, "factory", None)  # of an attrs.Factory
    expected = default if factory is None else factory()
    return type(value) is type(expected) and value == expected


_registered: ContextVar[list[Any] | None] = ContextVar("registered", default=None)


@contextmanager
def executing_file() -> Iterator[list[Any]]:
    """Yields the list of what is registered within the block, as `ncsnx.config.loading.Registered`."""
    registered: list[Any] = []
    token = _registered.set(registered)
    try:
        yield registered
    finally:
        _registered.reset(token)


def registered_by_file() -> list[Any] | None:
    """Experiments that the file that is being executed has registered so far; None outside of one."""
    return _registered.get()
