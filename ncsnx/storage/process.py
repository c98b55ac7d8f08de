"""Who and when: this process, as recorded for those who meet its work later."""

import os
import shlex
import socket
import sys
from datetime import UTC, datetime
from typing import Any

import attrs


@attrs.frozen(kw_only=True)
class ProcessNote:
    """What `this_process` says, as a part of documents."""

    started: str
    command: str
    pid: int
    host: str


def this_process() -> dict[str, Any]:
    """pid, host, command line as one could type it, and the present time (UTC, ISO 8601, seconds)."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": in_utf8(shlex.join(sys.argv)),
        "pid": os.getpid(),
        "host": socket.gethostname(),
    }


def in_utf8(name: str | os.PathLike[str]) -> str:
    """A name or a command line as text; its bytes that aren't UTF-8, which no JSON of ours may hold, as escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
