"""Ranks in threads of this process, with a store in memory."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from torch.distributed import HashStore

from ncsnx.ranks.rank_group import RankGroup, Store
from ncsnx.work import Work


def in_ranks(
    world: int,
    work: Callable[[RankGroup], Any],
    *,
    limit_s: float = 60.0,
    store: Store | None = None,
    tells: bool = True,
) -> list[Any]:
    """Runs `work` in `world` ranks; returns what it returned or raised, by rank. tells: whether an error is told to the
    other ranks, as commands do."""
    shared = HashStore() if store is None else store

    def run(rank: int) -> Any:
        ranks = RankGroup(shared, rank, world, limit_s=limit_s)
        try:
            return work(ranks)
        except BaseException as error:  # Stopped is no Exception
            if tells and isinstance(error, Exception):
                ranks.fail(getattr(error, "exit_code", 1))
            return error

    with ThreadPoolExecutor(world) as pool:
        return list(pool.map(run, range(world)))


def work_in(ranks: RankGroup, **options: Any) -> Work:
    """The work of a rank, which ends when another one fails."""
    return Work(ranks=ranks, check_stop=lambda: ranks.check_stop(None), **options)
