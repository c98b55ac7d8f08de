"""Who and when: this process, as recorded for those who meet its work later."""

import os
import shlex
import socket
import sys
from datetime import UTC, datetime
from typing import Any


def this_process() -> dict[str, Any]:
    """pid, host, command line as one could type it, and the present time (UTC, ISO 8601, seconds).

    Bytes that aren't UTF-8 are in the command line as backslash escapes, since JSON has no other place for them.
    """
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": os.fsencode(shlex.join(sys.argv)).decode("utf-8", "backslashreplace"),
        "pid": os.getpid(),
        "host": socket.gethostname(),
    }
