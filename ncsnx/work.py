"""How a long job shows how far it is, speaks and is stopped: given by who runs it, a command or a test."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import attrs


class Advance(Protocol):
    """Says that `count` more units are done."""

    def __call__(self, count: int = 1) -> None: ...


class Progress(Protocol):
    """Shows a job of `total` units while the block is open."""

    def __call__(self, name: str, *, total: int, unit: str = "") -> AbstractContextManager[Advance]: ...


@contextmanager
def unseen(name: str, *, total: int, unit: str = "") -> Iterator[Advance]:
    """Progress that nobody watches."""
    yield lambda count=1: None


def unheard(text: str) -> None:
    """A message that nobody reads."""


@attrs.frozen(kw_only=True)
class Work:
    """The surroundings of a job; by default nobody watches and nobody stops it."""

    progress: Progress = unseen
    check_stop: Callable[[], None] = lambda: None
    """Asked between the pieces of a job; ends it by raising."""
    info: Callable[[str], None] = unheard
    warning: Callable[[str], None] = unheard


UNSEEN = Work()
"""For jobs that nobody watches."""
