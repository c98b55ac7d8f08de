"""Starts and ends the process of a tracker, seen from the process that trains. Nothing here ever waits for it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from ncsnx.runs.folder import Run
from ncsnx.runs.tracker_records import tracker_log_path
from ncsnx.storage import atomic
from ncsnx.tracking.tracker_process import MOST_OUTCOME_BYTES

_PROGRAM = "from ncsnx.tracking.tracker_process import send_run; send_run()"
_POLL_S = 0.02


class TrackerChild:
    """The process that sends a run to one tracker."""

    def __init__(self, run: Run, tag: str, *, limit_s: int, patience_s: float, share: float = 1.0) -> None:
        """Starts it. limit_s: seconds that it may take for the rest after `end`; 0 for any number.

        patience_s: seconds for which it waits for another process that sends the same. share: largest share of the time
        until `end` that it computes, while no processor is idle. Raises NcsnxError.
        """
        self.tag = tag
        self._log = tracker_log_path(run, tag)
        arguments = [str(run.path.absolute()), tag, str(limit_s), str(patience_s), str(share)]
        with atomic.reporting(self._log):
            self._log.unlink(missing_ok=True)  # it may be a link
            descriptor = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-c", _PROGRAM, *arguments],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=descriptor,
                    env=_environment(),
                    start_new_session=True,  # Ctrl-C in the terminal isn't meant for it
                )
            finally:
                os.close(descriptor)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._wake, self._outcome = self._process.stdin, self._process.stdout
        os.set_blocking(self._wake.fileno(), False)

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    def wake(self) -> None:
        """Says that the run has gained something. Takes a microsecond, whatever the process does."""
        with suppress(OSError):  # it has ended, or hasn't looked for 65,536 times
            os.write(self._wake.fileno(), b".")

    def end(self) -> None:
        """Says that nothing more will come."""
        with suppress(OSError):
            self._wake.close()

    def kill(self) -> None:
        """Ends the process and those that it started, at once."""
        with suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self.end()
        self._outcome.close()

    def outcome(self) -> tuple[str | None, str]:
        """After the end: (None, the tracker's hint) if everything was sent, else (why not, '')."""
        code = self._process.wait()
        self.end()
        said = ""
        with suppress(OSError):
            os.set_blocking(self._outcome.fileno(), False)
            said = (os.read(self._outcome.fileno(), MOST_OUTCOME_BYTES) or b"").decode("utf-8", "replace")
        self._outcome.close()
        word, _, rest = said.partition(" ")
        if word == "sent":
            return None, rest
        if word == "failed":
            return rest, ""
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"its process ended with {how}; see {self._log}", ""


def wait_for_children(children: Sequence[TrackerChild], limit_s: float | None, is_stopping: Callable[[], bool]) -> None:
    """Returns when all have ended, after `limit_s` seconds, or as soon as a stop is requested."""
    end = None if limit_s is None else time.monotonic() + limit_s
    while not all(child.has_ended for child in children) and not is_stopping():
        if end is not None and time.monotonic() > end:
            return
        time.sleep(_POLL_S)


def _environment() -> dict[str, str]:
    """The environment, with this process's import path, and one thread for numerical libraries."""
    paths = [path for path in sys.path if path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
