"""Ranks in processes forked from the test's, joined by gloo."""

import multiprocessing
import os
import pickle
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any

import torch
from torch.distributed import TCPStore

from ncsnx.ranks import joining
from ncsnx.ranks.rank_group import RankGroup
from ncsnx.work import Work

_PATIENCE_S = 60.0
_FORKS = multiprocessing.get_context("fork")


class Ended(Exception):
    """The rank was ended, as by a launcher, because another one failed; or it died."""


def in_ranks(world: int, work: Callable[[RankGroup], Any], *, limit_s: float = 60.0) -> list[Any]:
    """Runs `work` in `world` processes; returns what it returned or raised, by rank.

    Some seconds after one has failed, the others are ended. What `work` changes stays in its process.
    """
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    pipes, processes = {}, []
    for rank in range(world):
        ours, theirs = _FORKS.Pipe(duplex=False)
        ranks = RankGroup(rank, world, limit_s=limit_s)
        processes.append(_FORKS.Process(target=_run, args=(ranks, store.port, work, theirs)))
        processes[-1].start()
        theirs.close()
        pipes[ours] = rank
    results: dict[int, Any] = {}
    patience_s = _PATIENCE_S
    while pipes and (ready := wait(list(pipes), patience_s)):
        for pipe in ready:
            assert isinstance(pipe, Connection)
            rank = pipes.pop(pipe)
            try:
                results[rank] = pickle.loads(pipe.recv_bytes())
            except EOFError:
                results[rank] = Ended()
            if isinstance(results[rank], BaseException):
                patience_s = 3.0
    has_failed = len(results) < world or any(isinstance(result, BaseException) for result in results.values())
    for process in processes:
        process.join(0 if has_failed else _PATIENCE_S)  # they leave together
        with suppress(ProcessLookupError):
            os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
    return [results.get(rank, Ended()) for rank in range(world)]


def _run(ranks: RankGroup, port: int, work: Callable[[RankGroup], Any], pipe: Connection) -> None:
    try:
        torch.set_num_threads(1)
        ranks = joining.open_group(TCPStore("localhost", port, is_master=False), ranks)
        result = work(ranks)
    except BaseException as error:  # Stopped is no Exception
        result = error
    try:
        content = pickle.dumps(result)
    except Exception:
        content = pickle.dumps(RuntimeError(repr(result)))
    pipe.send_bytes(content)
    if not isinstance(result, BaseException):
        joining.leave(ranks)
    os._exit(0)


def work_in(ranks: RankGroup, **options: Any) -> Work:
    """The work of a rank."""
    return Work(ranks=ranks, **options)
