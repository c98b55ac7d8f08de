"""Collectives of torch for the ranks of one command: gloo between CPUs, NCCL between GPUs."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from ncsnx.errors import Stopped
from ncsnx.ranks.failure_watch import FailureWatch
from ncsnx.ranks.rank_group import RankGroup


@contextmanager
def process_group(ranks: RankGroup, device: torch.device) -> Iterator[FailureWatch]:
    """Within the block collectives run between all ranks, on tensors of the CPU and of the device.

    One that takes longer than the group's limit raises an error. A rank that stays blocked in one after another rank
    failed is ended by the watch, which the block gets. Does nothing for a single rank.
    """
    if ranks.world == 1:
        yield FailureWatch(ranks)
        return
    is_cuda = device.type == "cuda"
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if is_cuda else "gloo",
        store=dist.PrefixStore("collectives", ranks.store),  # type: ignore[attr-defined,arg-type]
        rank=ranks.rank,
        world_size=ranks.world,
        timeout=timedelta(seconds=ranks.limit_s),
        device_id=device if is_cuda else None,
    )
    try:
        with FailureWatch(ranks) as watch:
            yield watch
    except Stopped:  # on all ranks
        dist.destroy_process_group()
        raise
    dist.destroy_process_group()  # not after an error: it could wait for a rank that has ended
