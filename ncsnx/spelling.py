"""How a message names a parameter: as its reader types it, in Python by default, as an option in a command."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_OPTION: ContextVar[Callable[[str], str] | None] = ContextVar("option", default=None)
"""Makes an option of a parameter's name. Other threads and spawned processes have none, and speak Python."""


class Placeholder(str):
    """What a person fills in, such as NAME: it is no text that is to be passed, and isn't quoted."""

    def __repr__(self) -> str:
        return str(self)


A_DIR, A_NAME = Placeholder("DIR"), Placeholder("NAME")


def parameter(name: str) -> str:
    """A parameter in a sentence about its value: `batch_size`, or its option in a command."""
    option = _OPTION.get()
    return name if option is None else option(name)


def argument(name: str, value: object = None) -> str:
    """What is to be passed: `device='auto'`, or in a command its option with the value.

    None leaves the value open: `out=`, or the option alone. True, as in `overwrite=True`, is the option alone too.
    """
    option = _OPTION.get()
    if option is None:
        return f"{name}=" if value is None else f"{name}={value!r}"
    return option(name) if value is None or value is True else f"{option(name)} {value}"


@contextmanager
def spelled_by(option: Callable[[str], str]) -> Iterator[None]:
    """Within the block, messages that this thread makes name the options that `option` makes of names."""
    token = _OPTION.set(option)
    try:
        yield
    finally:
        _OPTION.reset(token)
