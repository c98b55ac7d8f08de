"""This process: its description for records, and the memory that it can take."""

import os
import resource
import shlex
import socket
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs

SHARE = 4
"""Divisor of the available memory: at most 1/SHARE of it is filled."""
_JOBS = {"SLURM_JOB_ID": "Slurm", "PBS_JOBID": "PBS", "LSB_JOBID": "LSF"}
"""Variables with the number of a batch job, and the systems that set them."""


@attrs.frozen(kw_only=True)
class ProcessNote:
    """The values of `this_process`, as a part of documents."""

    started: str
    command: str
    pid: int
    host: str


def this_process() -> dict[str, Any]:
    """Current time (UTC, ISO 8601, seconds), command line quoted for a shell, pid and host."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": in_utf8(shlex.join(sys.argv)),
        "pid": os.getpid(),
        "host": socket.gethostname(),
    }


def batch_job() -> str | None:
    """The batch job that this process belongs to, such as 'Slurm job 1234'; None outside of one."""
    found = ((system, os.environ.get(name)) for name, system in _JOBS.items())
    return next((f"{system} job {in_utf8(number)}" for system, number in found if number), None)


def in_utf8(name: str | os.PathLike[str]) -> str:
    """A name or command line as text. Bytes that aren't UTF-8 are escaped, so that it can be written as JSON."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def available_memory() -> int:
    """Bytes that this process can still take without swapping: of the machine, its container and `ulimit -v`."""
    page, left = os.sysconf("SC_PAGE_SIZE"), list[int]()
    with suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        left.append(next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")))
    with suppress(OSError, ValueError):  # without a limit, memory.max is "max"
        container = Path("/sys/fs/cgroup")
        limit, used = ((container / f"memory.{name}").read_text() for name in ("max", "current"))
        statistics = dict(line.split() for line in (container / "memory.stat").read_text().splitlines())
        left.append(int(limit) - int(used) + int(statistics.get("inactive_file", 0)))  # the page cache gives way
    with suppress(OSError):
        limit_of_addresses, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit_of_addresses != resource.RLIM_INFINITY:
            left.append(limit_of_addresses - page * int(Path("/proc/self/statm").read_text().split()[0]))
    return max(0, min(left, default=os.sysconf("SC_PHYS_PAGES") * page // 2))
