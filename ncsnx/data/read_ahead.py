"""Reading ahead in several processes."""

import math
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Generic, TypeVar

import attrs
import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as MapStyle

from ncsnx.data.dataset import Dataset, StoredImages
from ncsnx.errors import Hint, NcsnxError
from ncsnx.spelling import argument

K = TypeVar("K")
V = TypeVar("V")

_AT_ONCE_VALUES = 1 << 20
_MOST_AT_ONCE = 64


def read_all(split: Dataset, workers: int = 0) -> Iterator[StoredImages]:
    """The images of a split in order, in batches of at most 2^20 values or 64 images."""
    most = max(1, min(_MOST_AT_ONCE, _AT_ONCE_VALUES // math.prod(split.shape)))
    pieces = [range(start, min(len(split), start + most)) for start in range(0, len(split), most)]
    return read_ahead(partial(_read, split), pieces, workers)


def _read(split: Dataset, piece: range) -> StoredImages:
    return split.read(torch.arange(piece.start, piece.stop))


def read_ahead(read: Callable[[K], V], keys: Sequence[K], workers: int) -> Iterator[V]:
    """`read(key)` of each key, in order. workers: number of processes that call it, a few keys ahead; 0: this process.

    `read` must be picklable. Raises NcsnxError with the message and hints of the one that `read` raises, and
    NcsnxError if a process died.
    """
    if workers == 0:
        yield from map(read, keys)
        return
    loader: DataLoader[V | _Failure] = DataLoader(
        _Reads(read),
        batch_size=None,
        sampler=keys,
        num_workers=workers,
        generator=torch.Generator(),  # without one, the loader would draw from the global generator
        worker_init_fn=_leave_signals_alone,
    )
    values = iter(loader)
    try:
        for value in values:
            if isinstance(value, _Failure):
                raise NcsnxError(value.message, *value.hints)
            yield value
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise NcsnxError(f"a data worker has died ({error}); try fewer with {argument('workers')}") from error
    finally:
        # Left to the garbage collector, the workers would live as long as the traceback of an exception.
        values._shutdown_workers()  # type: ignore[attr-defined]
        # A worker that waits for a lock held by a dead worker never ends and ignores SIGTERM, and this process would
        # wait for it forever at exit.
        for worker in getattr(values, "_workers", []):
            worker.kill()


def _leave_signals_alone(worker: int) -> None:
    """Ignores signals in a worker: terminals and schedulers signal the whole group, but the parent decides to stop."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


@attrs.frozen
class _Failure:
    """An error in a worker. It is returned, since the loader would raise it with a traceback in its message."""

    message: str
    hints: tuple[Hint, ...]


@attrs.frozen(eq=False)
class _Reads(MapStyle[V | _Failure], Generic[K, V]):
    """`read` as a map-style data set for torch's DataLoader."""

    read: Callable[[K], V]

    def __getitem__(self, key: K) -> V | _Failure:
        try:
            return self.read(key)
        except NcsnxError as error:
            return _Failure(error.message, error.hints)


def processors() -> int:
    """Number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
