"""A rank that is still blocked a while after another one failed is ended, and no other rank is."""

import threading
import time
from pathlib import Path

import pytest
from torch.distributed import HashStore

from ncsnx.ranks import failure_watch
from ncsnx.ranks.failure_watch import FailureWatch
from ncsnx.ranks.rank_group import ALONE, RankGroup
from tests.ranks.launched import launch, result_of, small
from tests.ranks.test_survival import in_rank_1

GRACE_S = 0.24


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failure_watch, "GRACE_S", GRACE_S)


class Watched:
    """Rank 1 of two, and how its watch ended it."""

    def __init__(self, limit_s: float = 60.0) -> None:
        self.store = HashStore()
        self.other, self.ranks = (RankGroup(self.store, rank, 2, limit_s=limit_s) for rank in range(2))
        self.ended: list[tuple[int, str]] = []
        self.has_ended = threading.Event()
        self.watch = FailureWatch(self.ranks, self._end)

    def _end(self, exit_code: int, text: str) -> None:
        self.ended.append((exit_code, text))
        self.has_ended.set()


def test_a_rank_that_stays_blocked_ends_with_the_exit_code_and_the_message_of_the_failed_one() -> None:
    watched = Watched()
    with watched.watch:
        begun = time.monotonic()
        watched.other.fail(2, "picture 12 is gone\nfix the data")
        assert watched.has_ended.wait(20)
    ((exit_code, text),) = watched.ended
    assert exit_code == 2
    assert "still blocked" in text
    assert text.endswith(f"after a failure of {watched.other.name}: picture 12 is gone")
    assert time.monotonic() - begun > GRACE_S


def test_a_rank_that_leaves_in_time_is_not_ended() -> None:
    for fails in (False, True):
        watched = Watched()
        with watched.watch:
            if fails:
                watched.store.set("failure", "1 rank 0: no")
        time.sleep(2 * GRACE_S)
        assert watched.ended == []
        assert "failure watch" not in [thread.name for thread in threading.enumerate()]


def test_a_rank_that_writes_is_spared_but_not_beyond_the_limit_of_the_group() -> None:
    watched = Watched(limit_s=1.0)
    watched.watch.is_writing = lambda: True
    watched.store.set("failure", "1 rank 0: no")
    with watched.watch:
        assert not watched.has_ended.wait(2 * GRACE_S)
        assert watched.has_ended.wait(20)


def test_a_store_that_ended_counts_as_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(store: object) -> None:
        raise ConnectionError

    monkeypatch.setattr(failure_watch, "failure_in", lost)
    watched = Watched()
    with watched.watch:
        assert watched.has_ended.wait(20)
    assert watched.ended[0][0] == 1
    assert watched.ended[0][1].endswith("after a failure of the process that holds the store of the ranks")


def test_a_single_rank_is_not_watched() -> None:
    with FailureWatch(ALONE):
        assert "failure watch" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.ranks
def test_a_rank_blocked_in_a_collective_ends_although_the_failed_one_keeps_its_connections(tmp_path: Path) -> None:
    """Rank 1 fails by a bug and hangs at its end, while rank 0 waits for it in an all-reduce of gloo."""
    hangs = "import atexit; atexit.register(time.sleep, 3600); raise LookupError('this is a bug')"
    prelude = f"import ncsnx.ranks.failure_watch as watch\nwatch.GRACE_S = 2.0\n{in_rank_1('step == 7', hangs)}"
    begun = time.monotonic()
    with launch(*small("steps=120", "checkpoint_every=5"), folder=tmp_path, prelude=prelude) as launcher:
        result = result_of(launcher)
    assert result.code != 0
    assert time.monotonic() - begun < 150
    (own,) = [line for line in result.err.splitlines() if "still blocked" in line]
    assert own.startswith("error: rank 0 (")
    assert "after a failure of rank 1 (" in own
    assert own.endswith("LookupError: this is a bug")
