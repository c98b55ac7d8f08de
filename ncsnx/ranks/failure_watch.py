"""Ends a rank that stays blocked in a collective after another rank has failed.

A rank that waits through the store of its group notices a failure within a second. One that waits in a collective
notices it only if its connection to the failed rank breaks, which it doesn't if that one hangs at its end, or if the
two aren't neighbours. It would stay until the limit of gloo or NCCL. So a thread looks for the failure meanwhile.
"""

import os
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import NoReturn, Self

import attrs

from ncsnx.quantities import counted
from ncsnx.ranks.rank_group import Failure, RankGroup, Store, failure_in

GRACE_S = 60.0
"""Time in seconds after a failure in which a rank may end by itself.

Longer than most steps, after which it notices; torchrun kills what is still there after 30 seconds, but other launchers
wait.
"""
_LOOKS = 12
"""Looks within the time of grace: each is one request to the store."""
_LOST = Failure(1, "the process that holds the store of the ranks")


@attrs.define(eq=False)
class FailureWatch:
    """Looks for the failure of another rank from a thread, within its block. Does nothing for a single rank."""

    _ranks: RankGroup
    _end: Callable[[int, str], object] = attrs.field(factory=lambda: _end_process)
    is_writing: Callable[[], bool] = attrs.field(default=lambda: False, init=False)
    """Whether this rank writes a file that must not be lost; it is then spared, but not beyond the group's limit."""
    _closed: threading.Event = attrs.field(factory=threading.Event, init=False)
    _thread: threading.Thread | None = attrs.field(default=None, init=False)

    def __enter__(self) -> Self:
        if self._ranks.world > 1:
            # of its own, since a wait of another thread locks the store
            store = self._ranks.store.clone()  # type: ignore[attr-defined]  # torch's, whose types lack it
            self._thread = threading.Thread(target=self._watch, args=(store,), name="failure watch", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closed.set()
        if self._thread is not None:
            self._thread.join(1)  # at most a request to the store

    def _watch(self, store: Store) -> None:
        grace_s, since = GRACE_S, 0.0
        failure: Failure | None = None
        while not self._closed.wait(grace_s / _LOOKS):
            if failure is None:
                failure, since = _found(store), time.monotonic()
                continue
            waited = time.monotonic() - since
            if waited >= grace_s and not (waited < self._ranks.limit_s and self.is_writing()):
                text = f"{self._ranks.name} was still blocked {counted(round(waited), 'second')} after a failure of"
                self._end(failure.exit_code, f"{text} {failure.text}")
                return


def _found(store: Store) -> Failure | None:
    try:
        return failure_in(store)
    except Exception:  # errors of a store have no class in common
        return _LOST


def _end_process(exit_code: int, text: str) -> NoReturn:
    # not by the console, which the blocked thread may have locked
    os.write(2, f"error: {text}\n".encode())
    os._exit(exit_code)
