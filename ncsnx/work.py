"""How a long job shows how far it is, speaks and is stopped: given by who runs it, a command or a test."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

import attrs


class Advance(Protocol):
    """Says that `count` more units are done.

    kept: an earlier process did them, so they say nothing of the pace.
    """

    def __call__(self, count: int = 1, *, kept: bool = False) -> None: ...


class Progress(Protocol):
    """Shows a job of `total` units while the block is open."""

    def __call__(self, name: str, *, total: int, unit: str = "") -> AbstractContextManager[Advance]: ...


class RowView(Protocol):
    """A table that fills up, and what is under way for its next row."""

    def begin(self, name: str) -> None:
        """Says what is under way from now on."""

    def advance(self, count: int = 1, *, kept: bool = False) -> None:
        """Says that `count` more units are done; kept as of `Advance`."""

    def row(self, cells: Sequence[str], best: int | None) -> None:
        """Adds a row; best: the number of the best one so far, where there is one."""


class Rows(Protocol):
    """Shows a job of `units` that makes `total` rows under these titles while the block is open."""

    def __call__(self, titles: Sequence[str], *, total: int, units: int) -> AbstractContextManager[RowView]: ...


@contextmanager
def silent_progress(name: str, *, total: int, unit: str = "") -> Iterator[Advance]:
    """Progress that nobody watches."""
    yield lambda count=1, kept=False: None


class _SilentRows:
    def begin(self, name: str) -> None: ...
    def advance(self, count: int = 1, *, kept: bool = False) -> None: ...
    def row(self, cells: Sequence[str], best: int | None) -> None: ...


@contextmanager
def silent_rows(titles: Sequence[str], *, total: int, units: int) -> Iterator[RowView]:
    """Rows that nobody watches."""
    yield _SilentRows()


def ignore_message(text: str) -> None:
    """A message that nobody reads."""


@attrs.frozen(kw_only=True)
class Work:
    """The surroundings of a job; by default nobody watches and nobody stops it."""

    progress: Progress = silent_progress
    rows: Rows = silent_rows
    check_stop: Callable[[], None] = lambda: None
    """Asked between the pieces of a job; ends it by raising."""
    at_once: Callable[[], AbstractContextManager[None]] = nullcontext
    """Surrounds what takes long without asking, and loses nothing by being left: it may be ended anywhere in there."""
    info: Callable[[str], None] = ignore_message
    warning: Callable[[str], None] = ignore_message
    detail: Callable[[str], None] = ignore_message
    """Of what only those want to read who look for the details."""


SILENT = Work()
"""For jobs that nobody watches."""
