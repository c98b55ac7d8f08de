"""Shares of batches: fixed, complete and disjoint, and the progress of all."""

import pytest

from ncsnx.ranks.rank_group import RankGroup
from ncsnx.ranks.shared_batches import extrapolated, own_images, runs_of


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


@pytest.mark.parametrize(("own", "total"), [(6, 18), (12, 18), (5, 7), (3, 3)])
def test_progress_of_one_rank_adds_up_to_that_of_all(own: int, total: int) -> None:
    told: list[int] = []
    advance = extrapolated(lambda count=1, kept=False: told.append(count), own, total)
    for _ in range(own):
        advance()
    assert sum(told) == total
    assert max(told) - min(told) <= 1


def test_runs_hold_consecutive_indices() -> None:
    assert runs_of([0, 1, 2, 5, 7, 8]) == [range(3), range(5, 6), range(7, 9)]
    assert runs_of([]) == []
