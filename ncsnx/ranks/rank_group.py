"""The group of ranks, and what they agree on: decisions of rank 0, results of all, a stop, a failure.

They exchange these through a key-value store (torch's TCPStore), not through collectives of the device. So a rank that
waits notices within a second that another one failed or was asked to stop, and a wait has a limit.
"""

import pickle
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Protocol, TypeVar

import attrs

from ncsnx.errors import Hint, NcsnxError, Stopped
from ncsnx.stopping import StopRequest

LIMIT_S = 1800.0
LIMIT_VARIABLE = "NCSNX_RANK_LIMIT"
"""Environment variable with the longest time in seconds that a rank waits for another one."""
_LOOK_S = 0.5
"""Interval in seconds at which a rank looks for the stop or the failure of another one."""
_GRACE_S = 3.0
"""Time in seconds in which ranks that fail for the same reason are taken for one failure."""
_FAILURE, _STOP, _CLAIM = "failure", "stop", "claim"

RANK_LOGS = "ranks"
"""Folder of the logs of ranks other than 0, beside that of rank 0."""

T = TypeVar("T")


class Store(Protocol):
    """A store of bytes by key that all ranks share; torch's `Store`."""

    def set(self, key: str, value: str, /) -> object: ...
    def get(self, key: str, /) -> bytes: ...
    def check(self, keys: list[str], /) -> bool: ...
    def add(self, key: str, amount: int, /) -> int: ...


class OtherRankError(Exception):
    """Another rank failed, and says so itself: this one ends silently with the same exit code."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


@attrs.frozen
class _Outcome:
    """Result of a rank's function: a value or an exception."""

    name: str
    """Name of the rank."""
    value: Any = None
    error: NcsnxError | Stopped | None = None

    def result(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.value


class RankGroup:
    """The ranks of a command, seen from one of them. All of them make the same calls of these methods, in order."""

    def __init__(
        self,
        store: Store | None = None,
        rank: int = 0,
        world: int = 1,
        local_rank: int = 0,
        local_world: int = 1,
        limit_s: float = LIMIT_S,
    ) -> None:
        """rank: this process, 0 … world − 1. local_rank, local_world: the same among the processes of this machine."""
        self.rank, self.world, self.local_rank, self.local_world = rank, world, local_rank, local_world
        self.limit_s = limit_s
        self._store = store
        self._calls = 0
        self._looked = 0.0
        self._stop: int | None = None

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which alone writes runs and speaks on the console."""
        return self.rank == 0

    @property
    def store(self) -> Store:
        """The store of a group of several ranks."""
        assert self._store is not None
        return self._store

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This rank's part of `items`: consecutive ones, in sizes that differ by one at most."""
        return items[len(items) * self.rank // self.world : len(items) * (self.rank + 1) // self.world]

    # ------------------------------------------------------------------------------------------------- exchanging

    def first(self, decide: Callable[[], T]) -> T:
        """Result of `decide` on rank 0, given to every rank; an NcsnxError or Stopped that it raises is raised on all.

        For everything that depends on files that change, on the clock, or on what a user does.
        """
        if self.world == 1:
            return decide()
        key = self._next_key()
        if self.is_first:
            self._put(f"{key}/0", self._outcome(decide))
        result: T = self._get(f"{key}/0", 0).result()
        return result

    def together(self, work: Callable[[], T]) -> list[T]:
        """Results of `work` on each rank, by rank, given to every rank. If it raises NcsnxError or Stopped on any, all
        of them raise that of the lowest rank."""
        if self.world == 1:
            return [work()]
        key = self._next_key()
        self._put(f"{key}/{self.rank}", self._outcome(work))
        outcomes = [self._get(f"{key}/{rank}", rank) for rank in range(self.world)]
        errors = [(outcome.name, outcome.error) for outcome in outcomes if isinstance(outcome.error, NcsnxError)]
        if len(errors) < self.world:
            for name, error in errors:
                error.message = f"{name}: {error.message}"
        return [outcome.result() for outcome in outcomes]

    def barrier(self) -> None:
        """Waits until every rank is here."""
        self.together(lambda: None)

    def post(self, key: str) -> None:
        """Sets a mark that any rank can look for by `posted`."""
        if self.world > 1:
            self.store.set(f"mark/{key}", "")

    def posted(self, key: str) -> bool:
        """Whether a rank has set this mark."""
        return self.world > 1 and self.store.check([f"mark/{key}"])

    # --------------------------------------------------------------------------------------- stopping and failing

    def check_stop(self, stop: StopRequest | None) -> None:
        """Raises Stopped if a signal has arrived at any rank, and OtherRankError if another rank failed.

        Other ranks are looked at twice a second at most.
        """
        if self.world > 1:
            if stop is not None and stop.requested:
                self.announce_stop(stop)
            elif time.monotonic() - self._looked > _LOOK_S:
                self.look()
            if self._stop is not None and stop is not None:
                stop.request(self._stop)
        if stop is not None:
            stop.check()

    def announce_stop(self, stop: StopRequest) -> None:
        """Tells the other ranks of the signal that arrived here."""
        if self._stop is None and stop.signal_number is not None:
            self._stop = stop.signal_number
            self.store.set(_STOP, str(self._stop))

    def look(self) -> None:
        """Looks for the stop of another rank. Raises OtherRankError if one failed."""
        self._looked = time.monotonic()
        if self.store.check([_FAILURE]):
            raise OtherRankError(self._failure())
        if self._stop is None and self.store.check([_STOP]):
            self._stop = int(self.store.get(_STOP))

    def fail(self, exit_code: int) -> bool:
        """Tells the other ranks that this one failed; returns whether it is the one to say why.

        Where all ranks fail for the same reason, rank 0 speaks, so the others give it a moment.
        """
        if self.world == 1:
            return True
        try:
            limit = time.monotonic() + (0 if self.is_first else _GRACE_S)
            while time.monotonic() < limit and not self.store.check([_FAILURE]):
                time.sleep(0.05)
            if self.store.add(_CLAIM, 1) > 1:
                return False
            self.store.set(_FAILURE, str(exit_code))
        except Exception:  # the store ended with its process
            return self.is_first
        return True

    def failure(self, grace_s: float = _GRACE_S) -> int | None:
        """Exit code of another rank that failed; None if none does within `grace_s` seconds.

        For an error that may follow from that failure, such as a lost connection.
        """
        if self.world == 1:
            return None
        limit = time.monotonic() + grace_s
        try:
            while not self.store.check([_FAILURE]):
                if time.monotonic() >= limit:
                    return None
                time.sleep(0.05)
            return self._failure()
        except Exception:  # the store ended with its process
            return None if self.is_first else 1

    @property
    def name(self) -> str:
        """The rank in messages: 'rank 3 (HOST)'."""
        return f"rank {self.rank} ({socket.gethostname()})"

    # --------------------------------------------------------------------------------------------------- the store

    def _next_key(self) -> str:
        self._calls += 1
        return f"call/{self._calls}"

    def _outcome(self, work: Callable[[], Any]) -> _Outcome:
        try:
            return _Outcome(self.name, work())
        except (NcsnxError, Stopped) as error:
            return _Outcome(self.name, error=error)

    def _put(self, key: str, outcome: _Outcome) -> None:
        self.store.set(key, pickle.dumps(outcome).hex())

    def _get(self, key: str, rank: int) -> _Outcome:
        self._wait(key, rank)
        found: _Outcome = pickle.loads(bytes.fromhex(self.store.get(key).decode()))
        return found

    def _wait(self, key: str, rank: int) -> None:
        """Waits for a rank. Raises OtherRankError if any failed, NcsnxError after the limit."""
        start, pause = time.monotonic(), 0.001
        while not self.store.check([key]):
            if time.monotonic() - start > self.limit_s:
                raise NcsnxError(
                    f"rank {rank} of {self.world} did not answer within {self.limit_s:g} seconds",
                    Hint("if it is only slow, allow more", f"export {LIMIT_VARIABLE}={2 * self.limit_s:g}"),
                )
            if time.monotonic() - self._looked > _LOOK_S:
                self.look()
            time.sleep(pause)
            pause = min(2 * pause, 0.1)

    def _failure(self) -> int:
        return int(self.store.get(_FAILURE))


@contextmanager
def held_by_first(ranks: RankGroup, lock: AbstractContextManager[None]) -> Iterator[None]:
    """Holds a lock on rank 0 during the block of all ranks; if it can't be had, none of them enters the block."""
    with ExitStack() as held:
        ranks.first(lambda: held.enter_context(lock))
        yield


ALONE = RankGroup()
"""The group of a command in one process."""
