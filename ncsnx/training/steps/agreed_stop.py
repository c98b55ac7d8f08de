"""A stop that all ranks heed at the same step, since a rank that waits for one that has ended would wait forever."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ncsnx.ranks.rank_group import RankGroup
from ncsnx.stopping import StopRequest

_FAILED = 255
"""Value of a rank that cannot continue; larger than the number of any signal."""


class AgreedStop:
    """A request to stop, as all ranks know it. With one rank it is that process's own."""

    def __init__(self, stop: StopRequest, ranks: RankGroup) -> None:
        self._stop, self._ranks = stop, ranks
        self._signal_number = 0

    @property
    def requested(self) -> bool:
        """Whether a stop was requested; with several ranks, as of their last agreement."""
        return self._signal_number > 0 if self._ranks.world > 1 else self._stop.requested

    def agree(self, *, failed: bool = False) -> bool:
        """Asks all ranks, which call this at the same step; returns whether one of them failed."""
        if self._ranks.world == 1:
            return failed
        own = torch.tensor(_FAILED if failed else self._stop.signal_number or 0, dtype=torch.int32)
        torch.distributed.all_reduce(own, op=torch.distributed.ReduceOp.MAX)
        found = int(own)
        if 0 < found < _FAILED:
            self._signal_number = found
            self._stop.request(signal.Signals(found))
        return found == _FAILED

    def check(self) -> None:
        """Raises Stopped on all ranks if a stop was requested on any; all ranks call this at the same step."""
        self.agree()
        if self.requested:
            self._stop.check()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Does with one rank what `StopRequest.at_once` does; several must not stop at different places."""
        if self._ranks.world > 1:
            yield
            return
        with self._stop.at_once():
            yield
