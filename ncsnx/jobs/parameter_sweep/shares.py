"""The share of a parameter sweep that this process takes: of the tasks of a Slurm array, and of the ranks in a task."""

import os
from collections.abc import Mapping, Sequence
from typing import TypeVar

import attrs

from ncsnx.errors import Hint, UsageError
from ncsnx.ranks.rank_group import RankGroup

T = TypeVar("T")
_TASK, _COUNT, _FIRST, _LAST, _STEP = (f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "COUNT", "MIN", "MAX", "STEP"))
_MOST_DIGITS = 10


@attrs.frozen
class SweepShare:
    """Every `count`-th item, from item `index` on."""

    index: int
    count: int
    words: str
    """Name of the process in messages: 'array task 3 of 8'; '' for the only one."""

    def of(self, items: Sequence[T]) -> Sequence[T]:
        """The items of this share."""
        return items[self.index :: self.count]


def share_here(ranks: RankGroup, environment: Mapping[str, str] = os.environ) -> SweepShare:
    """The share of this process. Raises UsageError for an array of tasks with gaps, some of whose shares nobody has."""
    task, tasks = _task(environment)
    words = [f"array task {task + 1:,} of {tasks:,}"] if tasks > 1 else []
    words += [f"rank {ranks.rank} of {ranks.world}"] if ranks.world > 1 else []
    return SweepShare(task * ranks.world + ranks.rank, tasks * ranks.world, ", ".join(words))


def _task(environment: Mapping[str, str]) -> tuple[int, int]:
    """Number of this process among the tasks of its Slurm array, from 0, and the number of tasks."""
    found = [environment.get(name, "") for name in (_TASK, _COUNT, _FIRST)]
    if not all(text.isdecimal() and len(text) <= _MOST_DIGITS for text in found):
        return 0, 1
    number, count, first = map(int, found)
    step = _number(environment, _STEP, 1)
    last = _number(environment, _LAST, first + (count - 1) * step)
    place, rest = divmod(number - first, max(step, 1))
    if rest or not 0 <= place < count or first + (count - 1) * step != last:
        raise UsageError(
            f"the tasks of the Slurm array from {first} to {last} have gaps, so parts of the sweep would be left out",
            Hint("number the tasks without gaps, such as 0-7"),
        )
    return place, count


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, "")
    return int(text) if text.isdecimal() and len(text) <= _MOST_DIGITS else default
