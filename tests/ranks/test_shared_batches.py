"""Shares of batches: fixed, complete and disjoint, and a wait that notices what arrives."""

import time
from collections.abc import Callable, Iterator

import pytest
from torch.distributed import HashStore

from ncsnx.errors import NcsnxError
from ncsnx.ranks.rank_group import ALONE, RankGroup
from ncsnx.ranks.shared_batches import AwaitedBatches, SharedBatches, runs_of
from ncsnx.work import ignore_progress


def shares(world: int, left: list[range], size: int = 4, mark: str = "a") -> list[list[int]]:
    groups = [RankGroup(HashStore(), rank, world) for rank in range(world)]
    return [SharedBatches(ranks=ranks, mark=mark, left=left, size=size).own for ranks in groups]


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


def test_rank_0_waits_for_the_images_of_others_and_reports_them() -> None:
    batches = SharedBatches(ranks=RankGroup(HashStore(), 0, 2), mark="a", left=[range(8)], size=4)
    others = shares(2, [range(8)])[1]
    arrivals: Iterator[list[int]] = iter([[], batches.own, others[:2], [], others[2:]])
    told: list[int] = []
    awaited = batches.awaited(lambda: next(arrivals), 20, lambda count=1, kept=False: told.append(count))
    awaited.advance(10)
    awaited.wait(lambda: None)
    assert told == [10, 5, 5]
    assert next(arrivals, None) is None


def test_other_ranks_and_a_single_one_wait_for_nothing() -> None:
    for ranks in (RankGroup(HashStore(), 1, 2), ALONE):
        batches = SharedBatches(ranks=ranks, mark="a", left=[range(8)], size=4)
        batches.awaited(list, 20, ignore_progress).wait(lambda: None)


@pytest.mark.parametrize("mark", ["a", "b", "c"])
def test_progress_in_batches_adds_up_with_a_short_last_batch(mark: str) -> None:
    """Six states of each batch: of three batches, the last of two images."""
    batches = SharedBatches(ranks=RankGroup(HashStore(), 0, 2), mark=mark, left=[range(10)], size=4)
    told: list[int] = []
    arrived = [shares(2, [range(10)], mark=mark)[1]]
    awaited = batches.awaited(arrived.pop, 18, lambda count=1, kept=False: told.append(count))
    assert awaited.look()
    for _ in range(6 * len({index // 4 for index in batches.own})):
        awaited.advance()
    assert sum(told) == 18


def waiting_for(indices: set[int], arrived: Callable[[], list[int]], limit_s: float = 60.0) -> AwaitedBatches:
    return AwaitedBatches(RankGroup(HashStore(), 0, 2, limit_s=limit_s), indices, arrived, 1, 1.0, ignore_progress)


def test_a_wait_in_which_nothing_arrives_has_a_limit() -> None:
    with pytest.raises(
        NcsnxError, match=r"no other rank finished an evaluation within 0\.1 seconds; .*NCSNX_RANK_LIMIT=0\.2"
    ):
        waiting_for({4}, list, limit_s=0.1).wait(lambda: None)


def test_runs_hold_consecutive_indices() -> None:
    assert runs_of([0, 1, 2, 5, 7, 8]) == [range(3), range(5, 6), range(7, 9)]
    assert runs_of([]) == []


def test_signs_of_life_extend_a_wait() -> None:
    """The other rank needs longer than the limit for its batch, and goes from evaluation to evaluation meanwhile."""
    store, begun = HashStore(), time.monotonic()
    other = RankGroup(store, 1, 2)

    def arrived() -> list[int]:
        other.look()
        return [4] if time.monotonic() - begun > 0.5 else []

    awaited = AwaitedBatches(RankGroup(store, 0, 2, limit_s=0.2), {4}, arrived, 1, 1.0, ignore_progress)
    awaited.wait(lambda: None)
    assert not awaited.indices
