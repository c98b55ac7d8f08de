"""Batches of images that the ranks of a command share: each makes and saves its own, and rank 0 waits for the rest."""

import time
import zlib
from collections.abc import Callable, Iterable, Sequence

import attrs

from ncsnx.ranks.rank_group import RankGroup, too_late
from ncsnx.work import Advance

_LOOK_S = 0.5
"""Longest interval in seconds at which rank 0 looks for batches of other ranks."""


@attrs.frozen(eq=False, kw_only=True)
class SharedBatches:
    """The images of a job that are left, in a grid of batches that doesn't depend on the number of ranks.

    Batch b holds the images from b · size on and belongs to rank (crc32(mark) + b) mod world, so that the last batches
    of many jobs don't all fall to the same rank.
    """

    ranks: RankGroup
    mark: str
    """A name of the job."""
    left: Sequence[range]
    """Indices of the images, ascending."""
    size: int
    """Images per batch."""

    @property
    def own(self) -> list[int]:
        """The indices of this rank's batches, ascending."""
        first, ranks = zlib.crc32(self.mark.encode()), self.ranks
        every = (index for some in self.left for index in some)
        return [index for index in every if (first + index // self.size) % ranks.world == ranks.rank]

    def awaited(self, arrived: Callable[[], Iterable[int]], units: int, advance: Advance) -> "AwaitedBatches":
        """The batches that rank 0 waits for: those of the others; none on other ranks.

        arrived: returns the indices that were saved since its last call, also those of this rank. units: units of
        progress of all images that are left, which `advance` is told.
        """
        own, others = self.own, set[int]()
        if self.ranks.is_first:
            others = {index for some in self.left for index in some}.difference(own)
        batches = [len({index // self.size for index in indices}) for indices in (own, others)]
        return AwaitedBatches(self.ranks, others, arrived, units, units * batches[1] / max(1, sum(batches)), advance)


@attrs.define(eq=False)
class AwaitedBatches:
    """Images that other ranks make, and the progress of all."""

    ranks: RankGroup
    indices: set[int]
    """Indices of the images that haven't been saved yet."""
    _arrived: Callable[[], Iterable[int]]
    _units: int
    """Units of all images."""
    _units_of_others: float
    """Units of those that are awaited."""
    _report: Advance
    _awaited: int = attrs.field(init=False)
    _own_done: int = attrs.field(default=0, init=False)
    _told: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._awaited = len(self.indices)

    def advance(self, count: int = 1, *, kept: bool = False) -> None:
        """Counts units that this rank has done."""
        self._own_done += count
        self._tell()

    def look(self) -> bool:
        """Whether any have arrived since the last call."""
        new = self.indices.intersection(self._arrived()) if self.indices else set()
        self.indices -= new
        if new:
            self._tell()
        return bool(new)

    def wait(self, check_stop: Callable[[], None]) -> None:
        """Waits until all of them are saved.

        Raises NcsnxError if no other rank gives a sign of life within the group's limit.
        """
        since, pause, signs = time.monotonic(), 0.01, 0
        while True:
            if self.look():
                since, pause = time.monotonic(), 0.01
            if not self.indices:
                return
            check_stop()
            others = (rank for rank in range(self.ranks.world) if rank != self.ranks.rank)
            before, signs = signs, sum(map(self.ranks.signs_of_life, others))
            if signs != before:
                since = time.monotonic()
            if time.monotonic() - since > self.ranks.limit_s:
                raise too_late("no other rank finished an evaluation", self.ranks.limit_s)
            time.sleep(pause)
            pause = min(2 * pause, _LOOK_S)

    def _tell(self) -> None:
        """Reports what is new. Units of other ranks are in proportion to the images that have arrived."""
        done = self._own_done
        if self._awaited:
            done += round(self._units_of_others * (1 - len(self.indices) / self._awaited))
            done = min(done, self._units)
        if done > self._told:
            self._report(done - self._told)
            self._told = done


def runs_of(indices: Iterable[int]) -> list[range]:
    """Ascending indices as ranges of consecutive ones."""
    runs: list[range] = []
    for index in indices:
        if runs and runs[-1].stop == index:
            runs[-1] = range(runs[-1].start, index + 1)
        else:
            runs.append(range(index, index + 1))
    return runs
