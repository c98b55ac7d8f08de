"""Every point belongs to exactly one of the processes that share a sweep."""

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncsnx.errors import UsageError
from ncsnx.jobs.parameter_sweep.shares import share_here
from ncsnx.ranks.rank_group import ALONE, RankGroup


def task(number: int, count: int, first: int = 0, step: int = 1) -> dict[str, str]:
    """The environment of a task of a Slurm array."""
    last = first + (count - 1) * step
    values = {"ID": first + number * step, "COUNT": count, "MIN": first, "MAX": last, "STEP": step}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


@given(st.integers(0, 40), st.integers(1, 5), st.integers(1, 3), st.integers(0, 9), st.integers(1, 4))
def test_the_shares_of_all_processes_are_the_whole(points: int, tasks: int, world: int, first: int, step: int) -> None:
    shares = [
        share_here(RankGroup(rank=rank, world=world), task(number, tasks, first, step)).of(range(points))
        for number in range(tasks)
        for rank in range(world)
    ]
    assert sorted(chain(*shares)) == list(range(points))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_process_alone_has_all_points() -> None:
    share = share_here(ALONE, {})
    assert (list(share.of(range(3))), share.words) == ([0, 1, 2], "")
    assert share_here(ALONE, task(2, 8)).words == "array task 3 of 8"


@pytest.mark.parametrize("change", [{"MAX": "9"}, {"ID": "5"}, {"MIN": "1"}])
def test_an_array_with_gaps_is_refused(change: dict[str, str]) -> None:
    environment = task(0, 4) | {f"SLURM_ARRAY_TASK_{name}": value for name, value in change.items()}
    with pytest.raises(UsageError, match="have gaps"):
        share_here(ALONE, environment)
