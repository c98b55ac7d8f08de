"""The process of a tracker: sends what the run gains until its standard input ends, then the rest.

    python -c 'from … import send_run; send_run()' RUN TAG LIMIT_S PATIENCE_S SHARE

Each byte on standard input says that the run has gained something. Its end says that the training has ended, however it
did. Standard output gets one line in the end: 'sent HINT' or 'failed WHY'. Standard error is the tracker's log.
"""

import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ncsnx.config.foreign import error_in_words
from ncsnx.errors import NcsnxError
from ncsnx.runs.folder import Run
from ncsnx.storage import atomic
from ncsnx.tracking.replica import Replica
from ncsnx.tracking.tracker import find_tracker
from ncsnx.tracking.tracker_output import CapturedOutput, without_secrets
from ncsnx.tracking.turns import Turns

MOST_OUTCOME_BYTES = 2_048
"""Longest outcome; pipes take as much at once."""


def send_run() -> None:
    """Runs the process for the arguments of the command line."""
    run, tag, limit_s = Run(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
    patience_s, share = map(float, sys.argv[4:6])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the end of standard input says when to end
        signal.signal(number, signal.SIG_IGN)
    outcome = os.dup(1)
    output = CapturedOutput()
    try:
        said = f"sent {_follow(run, tag, limit_s, patience_s, share)}"
    except NcsnxError as error:
        said = f"failed {error}"
    except BaseException as error:
        traceback.print_exc()
        said = f"failed {error_in_words(error)}"
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    output.end()
    with suppress(OSError):  # the training's process is gone
        os.write(outcome, without_secrets(said).encode("utf-8", "replace")[:MOST_OUTCOME_BYTES])
    os._exit(0)  # threads that a package leaves behind don't hold up the end


def _follow(run: Run, tag: str, limit_s: int, patience_s: float, share: float) -> str:
    """Sends the run until the end of standard input; returns the tracker's hint. limit_s, share: as for `Turns`.

    patience_s: seconds for which it waits for another process that sends the same.
    """
    found = find_tracker(tag)
    if found is None:
        raise NcsnxError(f"there is no tracker {tag!r}")
    turns = Turns(limit_s=limit_s, share=share, startup_s=found.startup_s)
    turns.wait()
    with _lock(run, tag, patience_s):
        replica = Replica(run, tag, found.open)
        replica.send()
        while turns.wait():
            replica.send()
        replica.send()
        replica.close()
    return replica.hint


@contextmanager
def _lock(run: Run, tag: str, patience_s: float) -> Iterator[None]:
    """Holds the tracker's lock: the process of a killed training may still be sending. Raises NcsnxError."""
    path = run.trackers / f".{tag}.lock"
    lock = FileLock(path)
    with atomic.reporting(path, 0):
        try:
            lock.acquire(timeout=patience_s)
        except Timeout:
            raise NcsnxError(f"another process is sending {run.name} to {tag}") from None
    try:
        yield
    finally:
        lock.release()
