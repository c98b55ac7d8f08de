"""The group of ranks, and what they agree on: decisions of rank 0, results of all, a stop, a failure.

They exchange these through a key-value store (torch's TCPStore), not through collectives of the device. So a rank that
waits notices within a second that another one failed or was asked to stop, and a wait has a limit. Values are pickled:
they come from processes of the same command, as in torch's own collectives of objects, never from a file.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import count
from typing import Any, Protocol, TypeVar

import attrs

from ncsnx.errors import Hint, NcsnxError, Stopped
from ncsnx.stopping import StopRequest, signal_name

LIMIT_S = 1800.0
LIMIT_VARIABLE = "NCSNX_RANK_LIMIT"
"""Environment variable with the longest time in seconds that a rank waits for another one."""
_LOOK_S = 0.5
"""Interval in seconds at which a rank looks for the stop or the failure of another one."""
_GRACE_S = 3.0
"""Time in seconds in which ranks that fail for the same reason are taken for one failure."""
_ENDED_S = 60.0
"""Time in seconds after a stop in which a rank that doesn't answer is waited for; then it has ended."""
_FAILURE, _STOP, _CLAIM = "failure", "stop", "claim"
_MOST_TEXT = 4 << 20
"""Longest text of a key; torch's TCPStore closes the connection above 8 MiB."""
_LONG = "parts "
"""Beginning of the text of a key whose value takes several keys."""
_AHEAD = 2
"""Items that a rank sends to rank 0 before that has taken the first of them."""

_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Environment variables of a process that a launcher started."""

RANK_LOGS = "ranks"
"""Folder of the logs of ranks other than 0, beside that of rank 0."""

T = TypeVar("T")


class Store(Protocol):
    """A store of bytes by key that all ranks share; torch's `Store`."""

    def set(self, key: str, value: str, /) -> object: ...
    def get(self, key: str, /) -> bytes: ...
    def check(self, keys: list[str], /) -> bool: ...
    def delete_key(self, key: str, /) -> bool: ...
    def add(self, key: str, amount: int, /) -> int: ...


class _IsOver(Exception):
    """Another rank's part of common work failed, so this one need not finish its own."""


class OtherRankError(Exception):
    """Another rank failed, and says so itself: this one ends silently with the same exit code."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


@attrs.frozen
class Failure:
    """The first failure of a rank, as the others find it in the store."""

    exit_code: int
    text: str
    """The rank and its message, in one line."""


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
        self._stop_seen = 0.0
        self._left: list[str] = []
        """Keys of this rank that others may still read."""
        self._shared_work: str | None = None
        """The call whose work this rank does."""

    def __getstate__(self) -> dict[str, Any]:
        """A copy without the store, for processes that read data: they take shares and exchange nothing."""
        return {**self.__dict__, "_store": None}

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

    def batch_size(self, images: int, most: int) -> int:
        """Images per batch: `most`, or fewer if some ranks would otherwise have no batch of `images`."""
        return most if self.world == 1 else min(most, max(1, -(-images // self.world)))

    # ------------------------------------------------------------------------------------------------- exchanging

    def first(self, decide: Callable[[], T], *, check_stop: Callable[[], None] | None = None) -> T:
        """Result of `decide` on rank 0, given to every rank; an NcsnxError or Stopped that it raises is raised on all.

        For everything that depends on files that change, on the clock, or on what a user does.

        check_stop: called while a rank waits, whose limit then counts from the last sign of life of the other: for a
        decision that follows long work.
        """
        if self.world == 1:
            return decide()
        key = self._next_key()
        if self.is_first:
            outcome = self._outcome(decide)
            self._left += self._put(f"{key}/0", outcome)
        else:
            outcome = self._get(f"{key}/0", 0, check_stop)
        result: T = outcome.result()
        return result

    def in_turn(self, work: Callable[[], T], check_stop: Callable[[], None]) -> T:
        """Runs `work` on rank 0, then on the others, which find what it left in a cache; returns this rank's result."""
        if self.is_first:
            result = work()
            self.first(lambda: None)
            return result
        self.first(lambda: None, check_stop=check_stop)
        return work()

    def lead(self, work: Callable[[], T], follow: Callable[[Any], object], check_stop: Callable[[], None]) -> T | None:
        """Runs `work` on rank 0, which calls `order` for what all ranks do together; the others carry out these orders.

        follow: carries out an order. Returns None on other ranks, and the result of `work` on rank 0.
        """
        result = None
        if self.is_first:
            result = work()
            self.first(lambda: None)
        else:
            while (order := self.first(lambda: None, check_stop=check_stop)) is not None:
                follow(order)
        self.gather(None, check_stop)  # rank 0, which may hold the store, ends last
        return result

    def order(self, what: T) -> T:
        """Gives the other ranks an order, which isn't None, within `lead`; returns it."""
        return self.first(lambda: what)

    def merged(self, own: Iterable[T], check_stop: Callable[[], None]) -> Iterator[T]:
        """The items of all ranks in turn, on rank 0: one of each rank, by rank, then the next one of each.

        own: the items of this rank; no rank has more than one before it, or fewer than one after it. Other ranks send
        theirs, not far ahead of rank 0, and yield nothing.
        """
        if self.world == 1:
            yield from own
            return
        key = self._next_key()
        if self.is_first:
            yield from self._received(key, iter(own), check_stop)
        else:
            self._send(key, own, check_stop)

    def gather(self, value: T, check_stop: Callable[[], None]) -> list[T]:
        """The values of all ranks, by rank, on rank 0, which waits for them; an empty list on the others."""
        return list(self.merged([value], check_stop))

    def together(self, work: Callable[[], T], *, check_stop: Callable[[], None] | None = None) -> list[T]:
        """Results of `work` on each rank, by rank, given to every rank. If it raises NcsnxError or Stopped on any, all
        of them raise that of the lowest rank.

        check_stop: as in `first`.
        """
        if self.world == 1:
            return [work()]
        key = self._next_key()
        self._shared_work = key
        try:
            own = self._outcome(work)
        finally:
            self._shared_work = None
        if own.error is not None:
            self.store.set(f"{key}/over", "")
        written = self._put(f"{key}/{self.rank}", own)
        outcomes = [
            own if rank == self.rank else self._get(f"{key}/{rank}", rank, check_stop) for rank in range(self.world)
        ]
        for read in self._left:  # every rank is in this call, so it has read what belongs to earlier ones
            self.store.delete_key(read)
        self._left = written
        errors = [(outcome.name, outcome.error) for outcome in outcomes if isinstance(outcome.error, NcsnxError)]
        if len(errors) < self.world:
            for name, error in errors:
                error.message = f"{name}: {error.message}"
        return [outcome.result() for outcome in outcomes]

    def barrier(self) -> None:
        """Waits until every rank is here."""
        self.together(lambda: None)

    # --------------------------------------------------------------------------------------- stopping and failing

    def check_stop(self, stop: StopRequest | None) -> None:
        """Raises Stopped if a signal has arrived at any rank, and OtherRankError if another rank failed.

        Other ranks are looked at twice a second at most.
        """
        if self.world > 1:
            if stop is not None and stop.signal_number is not None:
                self.announce_stop(stop.signal_number)
            elif time.monotonic() - self._looked > _LOOK_S:
                self.look()
            if self._stop is not None and stop is not None:
                stop.request(self._stop)
            if self._shared_work is not None and self.store.check([f"{self._shared_work}/over"]):
                raise _IsOver
        if stop is not None:
            stop.check()

    def announce_stop(self, signal_number: int) -> None:
        """Tells the other ranks of the signal that arrived here."""
        if self.world > 1 and self._stop is None:
            self._stop, self._stop_seen = signal_number, time.monotonic()
            self.store.set(_STOP, str(signal_number))

    def signs_of_life(self, rank: int) -> int:
        """A number that grows while a rank goes from evaluation to evaluation, or waits."""
        return self.store.add(f"alive/{rank}", 0)

    def give_sign_of_life(self) -> None:
        """Shows ranks that wait for this one that it works, twice a second at most; for work that ranks don't share."""
        if self.world > 1 and time.monotonic() - self._looked > _LOOK_S:
            self._looked = time.monotonic()
            self.store.add(f"alive/{self.rank}", 1)

    def look(self) -> None:
        """Looks for the stop of another rank, and gives a sign of life. Raises OtherRankError if one failed."""
        self._looked = time.monotonic()
        self.store.add(f"alive/{self.rank}", 1)
        if (found := failure_in(self.store)) is not None:
            raise OtherRankError(found.exit_code)
        if self._stop is None and self.store.check([_STOP]):
            self._stop, self._stop_seen = int(self.store.get(_STOP)), time.monotonic()

    def fail(self, exit_code: int, text: str = "") -> bool:
        """Tells the other ranks that this one failed; returns whether it is the one to say why.

        text: the message, of which the first line is told. Where all ranks fail for the same reason, rank 0 speaks, so
        the others give it a moment.
        """
        if self.world == 1:
            return True
        try:
            limit = time.monotonic() + (0 if self.is_first else _GRACE_S)
            while time.monotonic() < limit and not self.store.check([_FAILURE]):
                time.sleep(0.05)
            if self.store.add(_CLAIM, 1) > 1:
                return False
            line = text.strip().partition("\n")[0]
            self.store.set(_FAILURE, f"{exit_code} {self.name}: {line}")
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
            while (found := failure_in(self.store)) is None:
                if time.monotonic() >= limit:
                    return None
                time.sleep(0.05)
            return found.exit_code
        except Exception:  # the store ended with its process
            return None if self.is_first else 1

    @property
    def name(self) -> str:
        """The rank in messages: 'rank 3 (HOST)'."""
        import socket  # only where there are other ranks, as pickle below: they would slow the start of every command

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
        except _IsOver:
            return _Outcome(self.name)

    def _put(self, key: str, outcome: _Outcome) -> list[str]:
        """Stores an outcome; returns the keys."""
        import pickle

        text = pickle.dumps(outcome).hex()
        pieces = [text[start : start + _MOST_TEXT] for start in range(0, len(text), _MOST_TEXT)]
        if len(pieces) > 1:
            for number, piece in enumerate(pieces):
                self.store.set(f"{key}/{number}", piece)
            text = f"{_LONG}{len(pieces)}"
        self.store.set(key, text)  # last, since others look for it
        return [key, *(f"{key}/{number}" for number in range(len(pieces)) if len(pieces) > 1)]

    def _get(
        self, key: str, rank: int, check_stop: Callable[[], None] | None = None, *, remove: bool = False
    ) -> _Outcome:
        import pickle

        self._wait(key, rank, check_stop)
        text, pieces = self.store.get(key).decode(), list[str]()
        if text.startswith(_LONG):
            pieces = [f"{key}/{number}" for number in range(int(text[len(_LONG) :]))]
            text = "".join(self.store.get(piece).decode() for piece in pieces)
        for one in (key, *pieces) if remove else ():
            self.store.delete_key(one)
        found: _Outcome = pickle.loads(bytes.fromhex(text))
        return found

    def _send(self, key: str, own: Iterable[T], check_stop: Callable[[], None]) -> None:
        number = 0
        for number, item in enumerate(own, 1):
            if number > _AHEAD:
                self._wait(f"{key}/{self.rank}/{number - _AHEAD}/taken", 0, check_stop)
            self._put(f"{key}/{self.rank}/{number}", _Outcome(self.name, (item,)))
        self._put(f"{key}/{self.rank}/{number + 1}", _Outcome(self.name))

    def _received(self, key: str, own: Iterator[T], check_stop: Callable[[], None]) -> Iterator[T]:
        for number in count(1):
            for rank in range(self.world):
                place = f"{key}/{rank}/{number}"
                if rank == 0:
                    item = next(((one,) for one in own), None)
                else:
                    item = self._get(place, rank, check_stop, remove=True).value
                    self.store.set(f"{place}/taken", "")
                if item is None:
                    return
                yield item[0]

    def _wait(self, key: str, rank: int, check_stop: Callable[[], None] | None = None) -> None:
        """Waits for a rank. Raises OtherRankError if any failed, NcsnxError after the limit.

        check_stop: called meanwhile; the limit then counts from the last sign of life of that rank.
        """
        start, pause, signs = time.monotonic(), 0.001, -1
        while not self.store.check([key]):
            if check_stop is not None:
                check_stop()
                before, signs = signs, self.signs_of_life(rank)
                start = start if signs == before else time.monotonic()
            if time.monotonic() - start > self.limit_s:
                raise too_late(f"rank {rank} of {self.world} did not answer", self.limit_s)
            if time.monotonic() - self._looked > _LOOK_S:
                self.look()
            if self._stop is not None and time.monotonic() - self._stop_seen > _ENDED_S:
                raise Stopped(f"stopped by {signal_name(self._stop)}", self._stop)
            time.sleep(pause)
            pause = min(2 * pause, 0.1)


def failure_in(store: Store) -> Failure | None:
    """The failure that a rank has told; None if none has."""
    if not store.check([_FAILURE]):
        return None
    exit_code, _, text = store.get(_FAILURE).decode().partition(" ")
    return Failure(int(exit_code), text)


def too_late(what: str, limit_s: float) -> NcsnxError:
    """The error for a wait that reached its limit. what: what didn't happen."""
    return NcsnxError(
        f"{what} within {limit_s:g} seconds",
        Hint("if it is only slow, allow more", f"export {LIMIT_VARIABLE}={2 * limit_s:g}"),
    )


@contextmanager
def held_by_first(ranks: RankGroup, lock: AbstractContextManager[None]) -> Iterator[None]:
    """Holds a lock on rank 0 during the block of all ranks; if it can't be had, none of them enters the block."""
    with ExitStack() as held:
        ranks.first(lambda: held.enter_context(lock))
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
