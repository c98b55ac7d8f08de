"""Joins the group of ranks that a launcher started: torchrun, or whatever sets the same environment variables."""

import os
import platform
import re
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import cache
from math import isfinite
from typing import Any

import attrs

from ncsnx.errors import Hint, NcsnxError, UsageError
from ncsnx.ranks.rank_group import ALONE, LIMIT_S, LIMIT_VARIABLE, Channel, RankGroup, never_stop, too_late, world_here
from ncsnx.version import __version__

_CONNECT_S = 60.0
"""Longest time for reaching the store, in seconds."""
_UNLIMITED = timedelta(days=365)
_ALIKE = Hint("start all ranks alike")
_LOCAL = re.compile(r"--(?:data|workers|cache)(?:=.*)?|data\.root=.*", re.DOTALL)
"""Arguments that may differ between machines."""


@cache
def join() -> RankGroup:
    """The group of this process, joined once; `ALONE` where no launcher started it. Raises NcsnxError."""
    if world_here() == 1:
        return ALONE
    rank, world, local_rank, local_world = (
        int(os.environ.get(name, default))
        for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"), ("LOCAL_WORLD_SIZE", "1"))
    )
    ranks = RankGroup(rank, world, local_rank, local_world, rank_limit_s())
    from torch.distributed import PrefixStore, rendezvous  # type: ignore[attr-defined]

    try:
        store, _, _ = next(rendezvous("env://", timeout=timedelta(seconds=_CONNECT_S)))
        # a prefix of its own: torchrun keeps its store when it starts ranks again, with addresses of the dead ones
        # (https://github.com/pytorch/pytorch/issues/167288)
        return open_group(PrefixStore(f"ncsnx/{_fresh_name(store, rank, world, ranks.limit_s)}", store), ranks)
    except (RuntimeError, ValueError, OSError) as error:
        address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise NcsnxError(
            f"rank {rank} of {world} could not join its group at {address}: {str(error).splitlines()[0]}",
            Hint("check that this machine reaches that address, and that the port is free"),
        ) from error


def open_group(store: Any, ranks: RankGroup) -> RankGroup:
    """The group, joined with the other ranks of a store: gloo between CPUs, NCCL between GPUs."""
    import torch
    import torch.distributed as dist

    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    limit = timedelta(seconds=ranks.limit_s)
    dist.init_process_group(backend, store=store, rank=ranks.rank, world_size=ranks.world, timeout=limit)
    objects = dist.new_group(backend="gloo", timeout=limit)
    dist.distributed_c10d._set_pg_timeout(_UNLIMITED, objects)  # once all ranks are there
    return attrs.evolve(ranks, channel=Channel(store, objects))


def tell_stop(channel: Channel, signal_number: int) -> None:
    """Tells ranks that lose the connection to this one that a signal ended it."""
    with suppress(Exception):  # the store may have ended with its process
        channel.store.set("stopped", str(signal_number))


def told_stop(channel: Channel) -> int | None:
    """The signal that ended another rank; None if none is known."""
    with suppress(Exception):
        if channel.store.check(["stopped"]):
            return int(channel.store.get("stopped"))
    return None


def leave(ranks: RankGroup) -> None:
    """Closes the group once all ranks are done. Not after an error: it could wait for a rank that has ended."""
    from torch.distributed import destroy_process_group

    ranks.gather(lambda: None)  # a rank that ended earlier could not be started again with the others
    destroy_process_group()


def require_same_start(ranks: RankGroup, words: Sequence[str]) -> None:
    """Raises UsageError on every rank unless all were started with the same arguments, ncsnx, torch and Python.

    words: the arguments of this rank. Folders and workers may differ between machines.
    """
    if ranks.world == 1:
        return
    from importlib.metadata import version

    facts = {
        "arguments": " ".join(_without_local(words)),
        "ncsnx": __version__,
        "torch": version("torch"),
        "Python": ".".join(platform.python_version_tuple()[:2]),
    }
    require_same(ranks, "was started differently", facts)


def require_same(
    ranks: RankGroup,
    what: str,
    facts: Mapping[str, object],
    hint: Hint = _ALIKE,
    *,
    check_stop: Callable[[], None] = never_stop,
) -> None:
    """Raises UsageError on every rank unless the facts are equal on all.

    what: a clause on a rank where they aren't. check_stop: as in `RankGroup.first`.
    """
    if ranks.world == 1:
        return
    found = ranks.gather(lambda: (ranks.name, dict(facts)), check_stop=check_stop)
    first = found[0][1]
    for name, other in found[1:]:
        if other != first:
            keys = [key for key in {**first, **other} if first.get(key) != other.get(key)]
            shown = ", ".join(
                f"{key} {first.get(key, 'none')} on rank 0, {other.get(key, 'none')} there" for key in keys
            )
            raise UsageError(f"{name} {what}: {shown}", hint)


def _fresh_name(store: Any, rank: int, world: int, limit_s: float) -> str:
    """A name that rank 0 chooses for this start of the ranks, in a store that may hold keys of earlier starts.

    Launchers keep their store when they start ranks again, and count restarts differently on each machine. Every rank
    says hello under a name of its own, and takes the name that rank 0 answers to it. Raises NcsnxError after the limit.
    """
    own, limit = uuid.uuid4().hex, time.monotonic() + limit_s
    if rank > 0:
        store.set(f"ncsnx/hello/{rank}", own)
    answered: set[str] = set()
    while time.monotonic() < limit:
        if rank > 0 and store.check([f"ncsnx/welcome/{own}"]):
            name: str = store.get(f"ncsnx/welcome/{own}").decode()
            store.add(f"ncsnx/here/{name}", 1)
            return name
        if rank == 0:
            for other in range(1, world):
                if store.check([f"ncsnx/hello/{other}"]):
                    who = store.get(f"ncsnx/hello/{other}").decode()
                    if who not in answered:  # one of an earlier start reads no answer
                        store.set(f"ncsnx/welcome/{who}", own)
                        answered.add(who)
            if store.add(f"ncsnx/here/{own}", 0) == world - 1:
                return own
        time.sleep(0.02)
    raise too_late(f"the {world} ranks did not all start", limit_s)


def _without_local(words: Sequence[str]) -> list[str]:
    kept: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif _LOCAL.fullmatch(word):
            skip = word.startswith("--") and "=" not in word
        else:
            kept.append(word)
    return kept


def rank_limit_s() -> float:
    """Longest time in seconds that a step of training waits for another rank. Raises UsageError."""
    text = os.environ.get(LIMIT_VARIABLE, str(LIMIT_S))
    try:
        limit_s = float(text)
    except ValueError:
        limit_s = 0.0
    if not (isfinite(limit_s) and limit_s > 0):
        raise UsageError(f"{LIMIT_VARIABLE} {text[:40]!r}: expected a number of seconds above 0")
    return limit_s
