"""Output of a tracker's process: into a log of limited size, without the secrets of the environment."""

import os
import re
import threading
from collections.abc import Mapping

LIMIT_BYTES = 2**20
"""Size limit of a log."""
_SECRET = re.compile("KEY|TOKEN|SECRET|PASSW|CREDENTIAL|AUTH", re.IGNORECASE)
"""Names of environment variables with values that are never written."""
_LEAST_SECRET = 6
"""Length from which a value counts as a secret; a shorter one, such as '1', is found everywhere."""
_LOGIN = re.compile(r"(?<=://)[^/\s@]+(?=@)")
_LONGEST_LINE = 2**16
_MORE = b"\n(what followed was not kept: the log has reached its limit)\n"


def without_secrets(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """The text with *** instead of secrets in environment variables, and of logins in addresses."""
    secrets = [one for name, one in environment.items() if _SECRET.search(name) and len(one) >= _LEAST_SECRET]
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return _LOGIN.sub("***", text)


class CapturedOutput:
    """Standard output and error of this process, and of those that it starts, by way of a thread into a log.

    The thread reads even after the log has reached its limit, so that printing never waits.
    """

    def __init__(self) -> None:
        """Standard error must be the log's file."""
        self._log = os.dup(2)
        self._read, write = os.pipe()
        for stream in (1, 2):
            os.dup2(write, stream)
        os.close(write)
        self._left = LIMIT_BYTES
        self._thread = threading.Thread(target=self._keep, name="output", daemon=True)
        self._thread.start()

    def end(self, limit_s: float = 1.0) -> None:
        """Closes both streams and waits until what was printed is kept, for at most `limit_s` seconds."""
        for stream in (1, 2):
            os.dup2(self._log, stream)
        self._thread.join(limit_s)

    def _keep(self) -> None:
        rest = b""
        while piece := os.read(self._read, _LONGEST_LINE):
            if self._left <= 0:
                continue
            whole, newline, rest = (rest + piece).rpartition(b"\n")
            self._write(whole + newline)
            if len(rest) > _LONGEST_LINE:
                self._write(rest)
                rest = b""
        self._write(rest)

    def _write(self, content: bytes) -> None:
        if self._left <= 0:
            return
        kept = without_secrets(content.decode("utf-8", "replace")).encode()
        if len(kept) >= self._left:
            kept = kept[: self._left] + _MORE
        try:
            os.write(self._log, kept)
            self._left -= len(kept)
        except OSError:  # a full disk: the tracker continues without a log
            self._left = 0
