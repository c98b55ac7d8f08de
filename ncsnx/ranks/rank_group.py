"""The group of ranks: what rank 0 decides for all, what each of them gives, and its share of the work.

It is torch.distributed's, as `ncsnx.ranks.joining` opens it. Whatever is large or takes long, such as images, goes
through files that each rank writes by itself. A rank that fails ends, and the launcher then ends the others.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, TypeVar

import attrs

from ncsnx.errors import Hint, NcsnxError, Stopped

LIMIT_S = 1800.0
LIMIT_VARIABLE = "NCSNX_RANK_LIMIT"
"""Environment variable with the longest time in seconds that a step of training waits for another rank."""
_GRACE_S = 1.0
"""Time in seconds after which a rank other than 0 says why it ends, unless the launcher has ended it."""
_LONGEST_PAUSE_S = 0.05
"""Longest time in seconds between two looks of a rank that waits."""
_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Environment variables of a process that a launcher started."""

RANK_LOGS = "ranks"
"""Folder of the logs of ranks other than 0, beside that of rank 0."""

T = TypeVar("T")


def never_stop() -> None:
    """A stop check without a stop."""


class OtherRankDone(BaseException):
    """A rank other than 0 has done its share. Like Stopped it isn't an Exception."""


@attrs.frozen
class _Outcome:
    """Result of a rank's function: a value or an exception."""

    name: str
    value: Any = None
    error: NcsnxError | Stopped | None = None

    @classmethod
    def of(cls, name: str, work: Callable[[], Any]) -> "_Outcome":
        try:
            return cls(name, work())
        except (NcsnxError, Stopped) as error:
            return cls(name, error=error)

    def result(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.value


@attrs.frozen
class Channel:
    """Connection of a rank to the others."""

    store: Any
    """The store of this start of the ranks."""
    objects: Any
    """The group for objects, without a limit, since rank 0 may compute for hours."""


@attrs.frozen
class RankGroup:
    """The ranks of a command, seen from one of them. All of them make the same calls of its exchanges, in order.

    So no call of `first`, `gather` or `in_turn` may stand in a condition on the rank.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    """This process among those of this machine."""
    local_world: int = 1
    limit_s: float = LIMIT_S
    channel: Channel | None = attrs.field(default=None, eq=False, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy for processes that read data: they take shares and exchange nothing."""
        return type(self), (self.rank, self.world, self.local_rank, self.local_world, self.limit_s)

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which alone writes runs and speaks on the console."""
        return self.rank == 0

    @property
    def name(self) -> str:
        """The rank in messages: 'rank 3 (HOST)'."""
        import socket  # only where there are other ranks: it would slow the start of every command

        return f"rank {self.rank} ({socket.gethostname()})"

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This rank's part of `items`: consecutive ones, in sizes that differ by one at most."""
        return items[len(items) * self.rank // self.world : len(items) * (self.rank + 1) // self.world]

    def batch_size(self, images: int, most: int) -> int:
        """Images per batch: `most`, or fewer if some ranks would otherwise have no batch of `images`."""
        return most if self.world == 1 else min(most, max(1, -(-images // self.world)))

    def first(self, decide: Callable[[], T], *, check_stop: Callable[[], None] = never_stop) -> T:
        """Result of `decide` on rank 0, given to every rank; an NcsnxError or Stopped that it raises is raised on all.

        For everything that depends on files that change, on the clock, or on what a user does. check_stop: called
        while a rank waits; raises to end the wait.
        """
        if self.world == 1:
            return decide()
        from torch.distributed import broadcast_object_list

        outcome = [_Outcome.of(self.name, decide) if self.is_first else None]
        broadcast_object_list(outcome, 0, self._meet(check_stop))
        assert outcome[0] is not None
        result: T = outcome[0].result()
        return result

    def gather(self, work: Callable[[], T], *, check_stop: Callable[[], None] = never_stop) -> list[T]:
        """Results of `work` on each rank, by rank, given to every rank. If it raises NcsnxError or Stopped on any, all
        of them raise that of the lowest rank.

        check_stop: as in `first`.
        """
        if self.world == 1:
            return [work()]
        from torch.distributed import all_gather_object

        own = _Outcome.of(self.name, work)
        outcomes = [own] * self.world
        all_gather_object(outcomes, own, self._meet(check_stop))
        failures = [(outcome.name, outcome.error) for outcome in outcomes if isinstance(outcome.error, NcsnxError)]
        if len(failures) < self.world:
            for name, error in failures:
                error.message = f"{name}: {error.message}"
        return [outcome.result() for outcome in outcomes]

    def in_turn(self, work: Callable[[], T], check_stop: Callable[[], None]) -> T:
        """Runs `work` on rank 0, then on the others, which find what it left in a cache; returns this rank's result."""
        made: list[T] = []
        self.first(lambda: made.append(work()), check_stop=check_stop)
        return made[0] if made else work()

    def end_others(self) -> None:
        """Ends the shared part of a command: raises OtherRankDone on ranks other than 0, which alone has the result."""
        if not self.is_first:
            raise OtherRankDone

    def may_speak(self) -> bool:
        """Whether this rank is the one to say why the command ends. Rank 0 is preferred."""
        if self.channel is None:
            return True
        if not self.is_first:
            time.sleep(_GRACE_S)
        try:
            return bool(self.channel.store.add("spoken", 1) == 1)
        except Exception:  # the store ended with its process, which can't have said it
            return True

    def _meet(self, check_stop: Callable[[], None]) -> Any:
        """The group for objects, once all ranks are here. A rank that waits heeds signals, as in no collective."""
        import torch
        from torch.distributed import all_reduce

        assert self.channel is not None
        meeting, pause_s = all_reduce(torch.zeros(1), group=self.channel.objects, async_op=True), 0.0005
        assert meeting is not None
        while not meeting.is_completed():
            check_stop()
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        meeting.wait()
        return self.channel.objects


def too_late(what: str, limit_s: float) -> NcsnxError:
    """The error for a wait that reached its limit. what: what didn't happen."""
    return NcsnxError(
        f"{what} within {limit_s:g} seconds",
        Hint("if it is only slow, allow more", f"export {LIMIT_VARIABLE}={2 * limit_s:g}"),
    )


@contextmanager
def held_by_first(
    ranks: RankGroup, lock: AbstractContextManager[None], check_stop: Callable[[], None] = never_stop
) -> Iterator[None]:
    """Holds a lock on rank 0 during the block of all ranks; if it can't be had, none of them enters the block."""
    with ExitStack() as held:
        ranks.first(lambda: held.enter_context(lock), check_stop=check_stop)
        yield


ALONE = RankGroup()
"""The group of a command in one process."""


def rank_here() -> int:
    """Rank of this process, 0 where no launcher started it."""
    return int(os.environ["RANK"]) if world_here() > 1 else 0


def world_here() -> int:
    """Number of ranks that a launcher started with this process, 1 where none did."""
    found = [os.environ.get(name, "") for name in _NEEDED]
    whole = all(found) and found[0].isdecimal() and found[1].isdecimal()
    return max(1, int(found[1])) if whole else 1
