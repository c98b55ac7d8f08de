"""Description of this process for records: start, command line, pid, host and batch job."""

import os
import shlex
import socket
import sys
from datetime import UTC, datetime
from typing import Any

import attrs

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
