"""Requests to stop that all ranks obey at the same step: signals, and the end of the time of a training."""

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ncsnx.errors import Stopped
from ncsnx.ranks.rank_group import RankGroup
from ncsnx.stopping import StopRequest

_NOTHING, _TIME_IS_UP, _FAILED = -1, 0, 255
"""Values of a rank that continues, of one whose time is up, and of one that cannot continue; signals are between the
latter two."""


class TimeIsUp(Stopped):
    """The time of the training is up."""


class AgreedStop:
    """A request to stop, as all ranks know it. With one rank it is that process's own."""

    def __init__(self, stop: StopRequest, ranks: RankGroup) -> None:
        self._stop, self._ranks = stop, ranks
        self._agreed = _NOTHING
        self.end_s = math.inf
        """Time on the monotonic clock that requests a stop too."""

    @property
    def requested(self) -> bool:
        """Whether a stop was requested; with several ranks, as of their last agreement."""
        return (self._agreed if self._ranks.world > 1 else self._own()) > _NOTHING

    def agree(self, *, failed: bool = False) -> bool:
        """Asks all ranks, which call this at the same step; returns whether one of them failed."""
        if self._ranks.world == 1:
            return failed
        own = torch.tensor(_FAILED if failed else self._own(), dtype=torch.int32)
        torch.distributed.all_reduce(own, op=torch.distributed.ReduceOp.MAX)
        found = int(own)
        if found < _FAILED:
            self._agreed = found
        if _TIME_IS_UP < found < _FAILED:
            self._stop.request(signal.Signals(found))
        return found == _FAILED

    def check(self) -> None:
        """Raises Stopped on all ranks if a stop was requested on any; all ranks call this at the same step."""
        self.agree()
        if self.requested:
            self._stop.check()
            raise TimeIsUp("the time is up")

    def check_own(self) -> None:
        """Raises Stopped if a stop was requested of this rank, which alone may call this."""
        self._stop.check()
        if self._own() == _TIME_IS_UP:
            raise TimeIsUp("the time is up")

    def _own(self) -> int:
        """Number of the signal that arrived at this rank, else whether its time is up."""
        if self._stop.signal_number is not None:
            return self._stop.signal_number
        return _TIME_IS_UP if time.monotonic() >= self.end_s else _NOTHING

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Does with one rank what `StopRequest.interruptible` does; several must not stop at different places."""
        if self._ranks.world > 1:
            yield
            return
        with self._stop.interruptible():
            yield
