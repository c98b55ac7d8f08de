"""Joins the group of ranks that a launcher started: torchrun, or whatever sets the same environment variables."""

import os
import platform
import re
from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from importlib.metadata import version
from math import isfinite

from ncsnx.errors import Hint, NcsnxError, UsageError
from ncsnx.ranks.rank_group import ALONE, LIMIT_S, LIMIT_VARIABLE, RankGroup
from ncsnx.version import __version__

_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_CONNECT_S = 60.0
"""Longest time for reaching the store, in seconds."""
_LOCAL = re.compile(r"--(?:data|threads|workers|cache)(?:=.*)?|data\.root=.*", re.DOTALL)
"""Arguments that may differ between machines."""


def rank_here() -> int:
    """Rank of this process, 0 where no launcher started it; imports nothing."""
    return int(os.environ["RANK"]) if _world_here() > 1 else 0


@cache
def join() -> RankGroup:
    """The group of this process, joined once; `ALONE` where no launcher started it. Raises NcsnxError."""
    if _world_here() == 1:
        return ALONE
    rank, world, local_rank, local_world = (
        int(os.environ.get(name, default))
        for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"), ("LOCAL_WORLD_SIZE", "1"))
    )
    limit_s = _limit_s()
    from torch.distributed import PrefixStore, rendezvous  # type: ignore[attr-defined]

    address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    try:
        store, _, _ = next(rendezvous("env://", timeout=timedelta(seconds=_CONNECT_S)))
    except (RuntimeError, ValueError, OSError) as error:
        raise NcsnxError(
            f"rank {rank} of {world} could not reach the store of its group at {address}: {str(error).splitlines()[0]}",
            Hint("check that this machine reaches that address, and that the port is free"),
        ) from error
    # a launcher that restarts all ranks may keep its store, with what earlier ranks left in it
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    own = PrefixStore(f"ncsnx/{attempt}/{world}", store)
    return RankGroup(own, rank, world, local_rank, local_world, limit_s)


def require_same_start(ranks: RankGroup, words: Sequence[str]) -> None:
    """Raises UsageError on every rank unless all were started with the same arguments, ncsnx, torch and Python.

    words: the arguments of this rank. Folders, threads and workers may differ between machines.
    """
    if ranks.world == 1:
        return
    facts = {
        "arguments": " ".join(_without_local(words)),
        "ncsnx": __version__,
        "torch": version("torch"),
        "Python": ".".join(platform.python_version_tuple()[:2]),
    }
    found = ranks.together(lambda: (ranks.name, facts))
    first = found[0][1]
    for name, other in found[1:]:
        for key, value in other.items():
            if value != first[key]:
                raise UsageError(
                    f"the ranks were started differently: rank 0 with {key} {first[key]!r}, {name} with {value!r}",
                    Hint("start all of them with the same command and the same installation"),
                )


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


def _world_here() -> int:
    found = [os.environ.get(name, "") for name in _NEEDED]
    whole = all(found) and found[0].isdecimal() and found[1].isdecimal()
    return int(found[1]) if whole else 1


def _limit_s() -> float:
    text = os.environ.get(LIMIT_VARIABLE, str(LIMIT_S))
    try:
        limit_s = float(text)
    except ValueError:
        limit_s = 0.0
    if not (isfinite(limit_s) and limit_s > 0):
        raise UsageError(f"{LIMIT_VARIABLE} {text[:40]!r}: expected a number of seconds above 0")
    return limit_s
