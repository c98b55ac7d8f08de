"""Names of parameters in messages: as in Python by default, as options within a command."""

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_OPTION: ContextVar[Callable[[str], str] | None] = ContextVar("option", default=None)
"""Function from a parameter's name to its option. Unset in other threads and spawned processes: they write Python."""


class Placeholder(str):
    """A word that the reader replaces, such as NAME; shown without quotes."""

    def __repr__(self) -> str:
        return str(self)


A_DIR, A_FILE, A_NAME, A_RUN = (Placeholder(word) for word in ("DIR", "FILE", "NAME", "RUN"))


def parameter(name: str) -> str:
    """The parameter's name in a sentence: `batch_size`, or in a command its option."""
    option = _OPTION.get()
    return name if option is None else option(name)


def argument(name: str, value: object = None) -> str:
    """The argument to pass: `device='auto'`, or in a command its option with the value.

    In a command the value is quoted for the shell, and a tuple is joined by commas. None leaves it open: `out=`, or the
    option alone. True is the option alone too: `overwrite=True`. False is its negation: `compile=False`, or the option
    with 'no'.
    """
    option = _OPTION.get()
    if option is None:
        return f"{name}=" if value is None else f"{name}={value!r}"
    if value is False:
        return option(f"no_{name}")
    if value is None or value is True:
        return option(name)
    typed = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"{option(name)} {shlex.quote(typed)}"


@contextmanager
def spelled_by(option: Callable[[str], str]) -> Iterator[None]:
    """Within the block, messages of this thread name parameters by `option(name)`."""
    token = _OPTION.set(option)
    try:
        yield
    finally:
        _OPTION.reset(token)
