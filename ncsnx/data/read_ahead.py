"""Reading by several processes that are ahead of who uses what they read."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

import attrs
import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as MapStyle

from ncsnx.errors import NcsnxError
from ncsnx.spelling import argument

K = TypeVar("K")
V = TypeVar("V")


def read_ahead(read: Callable[[K], V], keys: Sequence[K], workers: int) -> Iterator[V]:
    """`read(key)` of each key, in order; with workers, that many processes call it, a few keys ahead.

    `read` must be one that can be pickled. Raises its NcsnxError in the words it has, and NcsnxError if a process died.
    """
    if workers == 0:
        yield from map(read, keys)
        return
    loader: DataLoader[V | _Failure] = DataLoader(
        _Reads(read),
        batch_size=None,
        sampler=keys,
        num_workers=workers,
        generator=torch.Generator(),  # else it would draw from the global one
        worker_init_fn=_leave_signals_alone,
    )
    values = iter(loader)
    try:
        for value in values:
            if isinstance(value, _Failure):
                raise NcsnxError(value.message)
            yield value
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise NcsnxError(
            f"a process that reads data has died ({error}); try fewer with {argument('workers')}"
        ) from error
    finally:
        # Left to the garbage collector, an exception whose traceback is kept would keep the workers too.
        values._shutdown_workers()  # type: ignore[attr-defined]
        # One that waits for a lock that a dead one held doesn't end, and doesn't heed the signal that it is sent: this
        # process would wait for it for ever at its end.
        for worker in getattr(values, "_workers", []):
            worker.kill()


def _leave_signals_alone(worker: int) -> None:
    """Terminals and batch schedulers signal the whole group, but when to stop is the parent's decision."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


@attrs.frozen
class _Failure:
    """An error of a worker: the loader would raise it with the worker's traceback in its message."""

    message: str


@attrs.frozen(eq=False)
class _Reads(MapStyle[V | _Failure], Generic[K, V]):
    """Key → what was read, for torch's DataLoader."""

    read: Callable[[K], V]

    def __getitem__(self, key: K) -> V | _Failure:
        try:
            return self.read(key)
        except NcsnxError as error:
            return _Failure(str(error))


def processors() -> int:
    """The CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
