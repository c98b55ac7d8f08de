"""Exchanges of ranks, with a process for each."""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st

from ncsnx.errors import NcsnxError, Stopped, UsageError
from ncsnx.ranks import joining, sharing
from ncsnx.ranks.launching import launch
from ncsnx.ranks.rank_group import ALONE, RankGroup, held_by_first
from ncsnx.ranks.sharing import own_images, wait_for_file
from ncsnx.stopping import StopRequest
from ncsnx.storage.batch_files import BatchFiles
from tests.ranks.process_ranks import Ended, in_ranks


@given(st.integers(0, 40), st.integers(1, 9))
def test_shares_are_consecutive_and_equal_but_for_one(count: int, world: int) -> None:
    shares = [RankGroup(rank, world).share(range(count)) for rank in range(world)]
    assert [item for share in shares for item in share] == list(range(count))
    sizes = {len(share) for share in shares}
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("world", "images", "most", "size"), [(1, 3, 64, 64), (2, 1_000, 64, 64), (2, 64, 64, 32), (4, 6, 64, 2)]
)
def test_batches_are_smaller_where_ranks_would_have_none(world: int, images: int, most: int, size: int) -> None:
    assert RankGroup(0, world).batch_size(images, most) == size


@pytest.fixture
def own_signals() -> Iterator[None]:
    """torch's launcher leaves its handlers of signals behind."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("own_signals")
def test_a_rank_that_nccl_aborted_is_said_to_have_waited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nkill -ABRT $$\n")
    python.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(logging, "disable", lambda level: None)
    monkeypatch.setenv("NCSNX_RANK_LIMIT", "60")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with pytest.raises(NcsnxError, match=r"ended by SIGABRT; the same .* slow rank, .*: export NCSNX_RANK_LIMIT=120$"):
        launch(1, [], device="cpu", processors=1)


def test_rank_0_alone_decides_for_all(tmp_path: Path) -> None:
    def decide(ranks: RankGroup) -> tuple[str, int]:
        (tmp_path / f"by-{ranks.rank}").touch()
        return "decided by", ranks.rank

    assert in_ranks(3, lambda ranks: ranks.first(lambda: decide(ranks))) == [("decided by", 0)] * 3
    assert [path.name for path in tmp_path.iterdir()] == ["by-0"]


def test_all_ranks_get_what_each_of_them_gives_in_order() -> None:
    assert in_ranks(3, lambda ranks: ranks.gather(lambda: ranks.rank**2)) == [[0, 1, 4]] * 3


def test_an_error_of_rank_0_is_raised_on_all() -> None:
    def refuse() -> None:
        raise UsageError("that is no name")

    for error in in_ranks(2, lambda ranks: ranks.first(refuse)):
        assert isinstance(error, UsageError)
        assert str(error) == "that is no name"


@pytest.mark.parametrize("given", [NcsnxError("the file is missing"), Stopped("stopped by SIGHUP", signal.SIGHUP)])
def test_an_error_or_a_stop_of_one_rank_is_raised_on_all(given: NcsnxError | Stopped) -> None:
    def work(ranks: RankGroup) -> None:
        def fail() -> None:
            if ranks.rank == 1:
                raise given

        ranks.gather(fail)

    for error in in_ranks(3, work):
        assert type(error) is type(given)
        if isinstance(error, Stopped):
            assert error.signal_number == signal.SIGHUP
        else:
            assert error.message.startswith("rank 1 (")
            assert error.message.endswith("): the file is missing")


def test_a_rank_that_waits_heeds_a_signal() -> None:
    def work(ranks: RankGroup) -> object:
        if ranks.is_first:
            time.sleep(20)
            return None
        with StopRequest() as stop:
            signal.setitimer(signal.ITIMER_REAL, 0.5)
            signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
            return ranks.first(lambda: None, check_stop=stop.check)

    begun_s = time.monotonic()
    stopped = in_ranks(2, work)[1]
    assert isinstance(stopped, Stopped)
    assert time.monotonic() - begun_s < 10


def test_ranks_that_wait_notice_at_once_that_another_died() -> None:
    def work(ranks: RankGroup) -> object:
        if ranks.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        begun_s = time.monotonic()
        try:
            return ranks.gather(lambda: None)
        except RuntimeError:
            return time.monotonic() - begun_s

    first, killed, last = in_ranks(3, work)
    assert isinstance(killed, Ended)
    assert max(first, last) < 10


def test_one_rank_says_why_and_it_is_rank_0_if_that_lives() -> None:
    assert in_ranks(3, lambda ranks: ranks.may_speak()) == [True, False, False]
    assert sorted(in_ranks(3, lambda ranks: ranks.rank > 0 and ranks.may_speak())) == [False, False, True]


def test_rank_0_makes_what_the_others_find(tmp_path: Path) -> None:
    def work(ranks: RankGroup) -> bool:
        def make() -> bool:
            existed = (tmp_path / "made").exists()
            (tmp_path / "made").touch()
            return existed

        return ranks.in_turn(make, lambda: None)

    assert in_ranks(3, work) == [False, True, True]


def test_a_lock_is_held_by_rank_0_during_the_block_of_all(tmp_path: Path) -> None:
    def work(ranks: RankGroup) -> list[list[str]]:
        class Lock:
            def __enter__(self) -> None:
                (tmp_path / f"held-by-{ranks.rank}").touch()

            def __exit__(self, *error: object) -> None:
                (tmp_path / f"held-by-{ranks.rank}").unlink()

        with held_by_first(ranks, Lock()):  # type: ignore[arg-type]
            return ranks.gather(lambda: [path.name for path in tmp_path.iterdir()])

    assert in_ranks(2, work) == [[["held-by-0"]] * 2] * 2
    assert list(tmp_path.iterdir()) == []


def test_one_process_alone_opens_no_group() -> None:
    assert ALONE.first(lambda: 3) == 3
    assert ALONE.gather(lambda: 4) == [4]
    assert ALONE.may_speak()
    assert not dist.is_initialized()


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


def shares(world: int, left: list[range], size: int = 4, mark: str = "a") -> list[list[int]]:
    return [own_images(RankGroup(rank, world), mark, left, size) for rank in range(world)]


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_shares_are_whole_batches_of_one_grid_and_hold_every_image_once(world: int) -> None:
    left = [range(3, 17), range(20, 42)]
    found = shares(world, left)
    assert sorted(index for one in found for index in one) == [*left[0], *left[1]]
    assert all(one == sorted(one) for one in found)
    owners = {index // 4: rank for rank, one in enumerate(found) for index in one}
    assert all(owners[index // 4] == rank for rank, one in enumerate(found) for index in one)
    sizes = [len({index // 4 for index in one}) for one in shares(world, [range(100)])]
    assert max(sizes) - min(sizes) <= 1


def test_jobs_of_one_batch_fall_to_different_ranks() -> None:
    owners = [[bool(one) for one in shares(4, [range(4)], mark=f"step-{step}")].index(True) for step in range(40)]
    assert all(owners.count(rank) >= 4 for rank in range(4))


def test_a_rank_goes_on_once_it_sees_the_file_and_heeds_a_stop_meanwhile(tmp_path: Path) -> None:
    asked = []
    path = tmp_path / "late"

    def check_stop() -> None:
        asked.append(path.exists())
        path.touch()

    wait_for_file(path, "rank 0", RankGroup(), check_stop)
    assert asked == [False]


def test_a_file_that_never_shows_is_an_error_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "_SHARED_DISK_S", 0.1)
    with pytest.raises(NcsnxError, match=r"^rank 0 \(.*\) does not see all of .*never that rank 3 wrote") as caught:
        wait_for_file(tmp_path / "never", "rank 3", RankGroup(), lambda: None)
    assert [hint.label for hint in caught.value.hints] == ["put it on a disk that all machines share"]


def test_the_parts_of_other_ranks_are_waited_for_until_all_are_listed(tmp_path: Path) -> None:
    """The last parts appear after a while, as in an older listing of the folder on another machine."""

    parts = BatchFiles(tmp_path)

    def write(start: int) -> None:
        parts.add(start, {"values": torch.zeros(10, 1)})

    def write_late() -> None:
        time.sleep(0.5)
        write(10)
        write(20)

    write(0)
    thread = threading.Thread(target=write_late)
    thread.start()
    wait_for_file(tmp_path, "all ranks", RankGroup(), lambda: None, is_seen=lambda: not parts.missing(30))
    assert len(list(tmp_path.iterdir())) == 3
    thread.join()
