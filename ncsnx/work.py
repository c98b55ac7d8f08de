"""Progress display, messages and stop check of a long job, supplied by its caller (a command, a program, a test)."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import attrs

from ncsnx.ranks.rank_group import ALONE, RankGroup
from ncsnx.stopping import StopRequest


class Advance(Protocol):
    """Reports that `count` more units are done.

    kept: an earlier process did them, so they don't count for the pace.
    """

    def __call__(self, count: int = 1, *, kept: bool = False) -> None: ...


class Progress(Protocol):
    """Shows the progress of a job of `total` units within a block."""

    def __call__(self, name: str, *, total: int, unit: str = "") -> AbstractContextManager[Advance]: ...


def ignore_message(text: str) -> None:
    """Discards a message."""


class Unseen:
    """Stands in for displays and files that a job doesn't have: its methods do nothing, and its block yields it."""

    def __call__(self, *facts: object, **more: object) -> Any:
        return self

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *values, **more: None

    def __enter__(self) -> "Unseen":
        return self

    def __exit__(self, *error: object) -> None: ...


UNSEEN = Unseen()


@attrs.frozen(kw_only=True)
class Work:
    """Progress, messages and stop check of a job; by default nothing is shown.

    A program passes one to a function of `import ncsnx`, in any thread, and ends it by `work.stop.request()`
    from another: the call then raises `ncsnx.errors.Stopped` (a BaseException) once what is done is saved.

        work = ncsnx.Work(warning=print)
        ncsnx.restore("photographs", inpaint="photo.png", mask="mask.png", work=work)
    """

    progress: Progress = UNSEEN
    rows: Callable[..., AbstractContextManager[Any]] = UNSEEN
    """Opens a `ncsnx.console.progress.RowsView`, given titles, and the numbers of rows (total) and units of work."""
    stop: StopRequest = attrs.field(factory=StopRequest)
    """The request that `check_stop` reads."""
    check_stop: Callable[[], None] = attrs.Factory(lambda self: self.stop.check, takes_self=True)
    """Called between the pieces of a job; raises to end it."""
    interruptible: Callable[[], AbstractContextManager[None]] = nullcontext
    """Surrounds long work without calls of `check_stop` that can be interrupted anywhere without loss."""
    info: Callable[[str], None] = ignore_message
    warning: Callable[[str], None] = ignore_message
    detail: Callable[[str], None] = ignore_message
    """Shows a message in verbose output only."""
    ranks: RankGroup = ALONE
    """The processes that share the job."""
    attach: Callable[[Path], None] = lambda log: None
    """Begins to append messages, and those so far, to a log file."""
    separate: "Callable[[], Work] | None" = None
    """Makes a Work with a log of its own."""
    training: Callable[..., AbstractContextManager[Any]] = UNSEEN
    """Opens a `ncsnx.training.observer.TrainingObserver`, given what `ncsnx.console.training.TrainingView` takes."""

    def with_own_log(self) -> "Work":
        """The same, for a part with a log of its own, such as a training among others."""
        return self if self.separate is None else self.separate()


SILENT = Work()
"""Work without a display, for tests and library calls."""


def extrapolated(advance: Advance, own: int, total: int) -> Advance:
    """Progress of all ranks, in `total` units, as if the others were as far as this one with its `own` units."""
    done = 0

    def advance_all(count: int = 1, *, kept: bool = False) -> None:
        nonlocal done
        before, done = done, done + count
        advance(done * total // own - before * total // own)

    return advance_all
