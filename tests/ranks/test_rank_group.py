"""Agreement of ranks through their store, with a thread for each rank."""

import pickle
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st

from ncsnx.config.codec import ABSENT
from ncsnx.errors import NcsnxError, Stopped, UsageError
from ncsnx.ranks import joining, rank_group
from ncsnx.ranks.rank_group import ALONE, OtherRankError, RankGroup, held_by_first
from ncsnx.stopping import StopRequest
from tests.ranks.thread_ranks import in_ranks as threads_in_ranks

in_ranks = partial(threads_in_ranks, limit_s=20.0, tells=False)


@given(st.integers(0, 40), st.integers(1, 9))
def test_shares_are_consecutive_and_equal_but_for_one(count: int, world: int) -> None:
    shares = [RankGroup(None, rank, world).share(range(count)) for rank in range(world)]
    assert [item for share in shares for item in share] == list(range(count))
    sizes = {len(share) for share in shares}
    assert max(sizes) - min(sizes) <= 1


def test_rank_0_decides_for_all() -> None:
    assert in_ranks(3, lambda ranks: ranks.first(lambda: ("decided by", ranks.rank))) == [("decided by", 0)] * 3


def test_only_rank_0_does_what_is_decided() -> None:
    done: list[int] = []
    in_ranks(3, lambda ranks: ranks.first(lambda: done.append(ranks.rank)))
    assert done == [0]


def test_all_ranks_get_what_each_of_them_gives_in_order() -> None:
    assert in_ranks(3, lambda ranks: ranks.together(lambda: ranks.rank**2)) == [[0, 1, 4]] * 3


def test_an_error_of_rank_0_is_raised_on_all() -> None:
    def refuse() -> None:
        raise UsageError("that is no name")

    for error in in_ranks(2, lambda ranks: ranks.first(refuse)):
        assert isinstance(error, UsageError)
        assert str(error) == "that is no name"


def test_an_error_of_one_rank_is_raised_on_all_with_its_name() -> None:
    def work(ranks: RankGroup) -> None:
        def fail() -> None:
            if ranks.rank == 1:
                raise NcsnxError("the file is missing")

        ranks.together(fail)

    for error in in_ranks(3, work):
        assert isinstance(error, NcsnxError)
        assert error.message.startswith("rank 1 (")
        assert error.message.endswith("): the file is missing")


def test_an_error_of_all_ranks_names_none() -> None:
    def fail() -> None:
        raise NcsnxError("the disk is full")

    assert {str(error) for error in in_ranks(2, lambda ranks: ranks.together(fail))} == {"the disk is full"}


def test_a_stop_of_one_rank_stops_all_with_its_signal() -> None:
    def work(ranks: RankGroup) -> None:
        def stop() -> None:
            if ranks.rank == 1:
                raise Stopped("stopped by SIGHUP", signal.SIGHUP)

        ranks.together(stop)

    for error in in_ranks(2, work):
        assert isinstance(error, Stopped)
        assert error.signal_number == signal.SIGHUP


def test_a_signal_at_one_rank_is_noticed_by_the_check_of_another() -> None:
    stops = [StopRequest(), StopRequest()]
    stops[0].request(signal.SIGTERM)

    def work(ranks: RankGroup) -> None:
        end_s = time.monotonic() + 10
        while time.monotonic() < end_s:
            ranks.check_stop(stops[ranks.rank])
            time.sleep(0.01)

    for error in in_ranks(2, work):
        assert isinstance(error, Stopped)
        assert str(error) == "stopped by SIGTERM"


def test_a_rank_that_waits_ends_when_another_fails() -> None:
    def work(ranks: RankGroup) -> object:
        if ranks.rank == 1:
            return ranks.fail(2)
        return ranks.together(lambda: None)

    waited, speaks = in_ranks(2, work)
    assert speaks is True
    assert isinstance(waited, OtherRankError)
    assert waited.exit_code == 2


def test_one_rank_speaks_of_a_failure_of_all_and_it_is_rank_0() -> None:
    assert in_ranks(3, lambda ranks: ranks.fail(1)) == [True, False, False]


def test_a_wait_has_a_limit_and_says_how_to_raise_it() -> None:
    def work(ranks: RankGroup) -> None:
        if ranks.is_first:
            ranks.together(lambda: None)

    error, _ = in_ranks(2, work, limit_s=0.3)
    assert isinstance(error, NcsnxError)
    assert "rank 1 of 2 did not answer within 0.3 seconds" in str(error)
    assert "export NCSNX_RANK_LIMIT=0.6" in str(error)


def test_a_lock_is_held_by_rank_0_only() -> None:
    held: list[int] = []

    def work(ranks: RankGroup) -> None:
        class Lock:
            def __enter__(self) -> None:
                held.append(ranks.rank)

            def __exit__(self, *error: object) -> None:
                held.remove(ranks.rank)

        with held_by_first(ranks, Lock()):  # type: ignore[arg-type]
            ranks.barrier()
            assert held == [0]
            ranks.barrier()

    assert in_ranks(2, work) == [None, None]
    assert held == []


def test_one_process_alone_needs_no_store() -> None:
    assert ALONE.first(lambda: 3) == 3
    assert ALONE.together(lambda: 4) == [4]
    ALONE.barrier()
    ALONE.check_stop(None)
    assert ALONE.fail(1)
    assert ALONE.failure() is None
    with pytest.raises(UsageError, match="no"):
        ALONE.first(lambda: _raise(UsageError("no")))


def _raise(error: Exception) -> None:
    raise error


def test_ranks_that_start_again_in_the_same_store_see_nothing_of_the_earlier_ones() -> None:
    """Launchers on two machines keep the store, and count restarts differently."""
    store = dist.HashStore()

    def start(world: int) -> set[str]:
        with ThreadPoolExecutor(world) as pool:
            return set(pool.map(lambda rank: joining._fresh_name(store, rank, world, 20.0), range(world)))

    names = [start(world) for world in (3, 3, 2, 3)]
    assert [len(some) for some in names] == [1, 1, 1, 1]
    assert len(set.union(*names)) == 4


def test_a_rank_that_never_starts_is_given_up() -> None:
    with pytest.raises(NcsnxError, match="the 2 ranks did not all start within"):
        joining._fresh_name(dist.HashStore(), 0, 2, 0.2)


def test_ranks_with_other_facts_are_refused_by_name() -> None:
    def work(ranks: RankGroup) -> None:
        joining.require_same(ranks, "has other data", {"images": 10 + (ranks.rank == 2)})

    for error in in_ranks(3, work):
        assert isinstance(error, UsageError)
        assert error.message.startswith("rank 2 (")
        assert error.message.endswith(") has other data: images 10 on rank 0, 11 there")


def test_a_placeholder_stays_itself_where_ranks_share_it() -> None:
    for found in in_ranks(2, lambda ranks: ranks.first(lambda: ABSENT)):
        assert found is ABSENT


def test_processes_that_read_data_get_the_shares_without_the_store() -> None:
    ranks = pickle.loads(pickle.dumps(RankGroup(dist.HashStore(), 1, 3)))
    assert list(ranks.share(range(6))) == [2, 3]


def test_what_all_ranks_have_read_is_removed() -> None:
    store = dist.HashStore()

    def work(rank: int) -> None:
        ranks = RankGroup(store, rank, 2)
        for number in range(20):
            ranks.together(lambda: number)  # noqa: B023 (called at once)
            ranks.first(lambda: number)  # noqa: B023

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, range(2)))
    assert store.num_keys() <= 8


def test_an_error_of_one_rank_ends_the_work_of_the_others_early() -> None:
    def work(ranks: RankGroup) -> None:
        def long() -> None:
            if ranks.is_first:
                raise NcsnxError("no space left")
            for _ in range(2_000):
                ranks.check_stop(None)
                time.sleep(0.01)

        ranks.together(long)

    begun = time.monotonic()
    errors = in_ranks(2, work)
    assert time.monotonic() - begun < 10
    assert all("no space left" in str(error) for error in errors)


def test_a_rank_that_ended_by_a_signal_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_group, "_ENDED_S", 0.5)

    def work(ranks: RankGroup) -> None:
        if ranks.is_first:
            ranks.announce_stop(signal.SIGTERM)
        else:
            ranks.first(lambda: None)

    _, stopped = in_ranks(2, work)
    assert isinstance(stopped, Stopped)
    assert str(stopped) == "stopped by SIGTERM"
