"""Available memory, which limits what is read into it."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

SHARE = 4
"""Divisor of the available memory: at most 1/SHARE of it is filled."""


def available_memory() -> int:
    """Bytes that this process can still allocate without swapping, as far as the system reports it."""
    return max(0, min([_left_on_machine(), *_left_in_groups(), *_left_of_addresses()]))


def _left_on_machine() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _left_in_groups(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> Iterator[int]:
    """Bytes left of each limit set by a container or a batch scheduler (control groups, version 2)."""
    try:
        group = next(line[4:] for line in own.read_text().splitlines() if line.startswith("0::/"))
    except (OSError, StopIteration):
        return
    for folder in (groups / group, *(groups / group).parents):
        if folder.is_relative_to(groups) and (limit := _limit(folder)) is not None:
            yield limit


def _left_of_addresses() -> Iterator[int]:
    """Bytes left of the limit set by `ulimit -v`."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        try:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
        except OSError:
            return
        yield limit - pages * os.sysconf("SC_PAGE_SIZE")


def _limit(folder: Path) -> int | None:
    try:
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        used = int((folder / "memory.current").read_text()) - int(statistics["inactive_file"])
        return int((folder / "memory.max").read_text()) - used
    except (OSError, KeyError, ValueError):  # without a limit, memory.max is "max"
        return None
