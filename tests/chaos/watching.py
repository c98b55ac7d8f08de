"""Watching a training process from outside: which checkpoints it writes, and for how long."""

import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.training.tiny import start

POLL_S = 0.0003
LOOK_AFTER_S = 180.0


def half_written(place: Path) -> set[str]:
    """Names of the temporary folders of checkpoints, current or left over, in the runs of `place`."""
    return {path.name for path in place.glob("runs/*/checkpoints/.step-*.tmp-*")}


def wait_for_write(place: Path, process: "subprocess.Popen[str]", number: int, before: set[str]) -> None:
    """Returns when the `number`-th temporary folder beyond `before` has appeared, or the process has ended."""
    seen: set[str] = set()

    def has_come() -> bool:
        seen.update(half_written(place) - before)
        return len(seen) >= number

    wait_for(has_come, process, POLL_S)


def times_of(command: list[str], place: Path) -> tuple[float, float]:
    """(seconds of the process, mean seconds per write of a checkpoint) of a command, by watching it."""
    begun_s = time.monotonic()
    first_s: dict[str, float] = {}
    last_s: dict[str, float] = {}
    with start(*command, folder=place) as process:

        def look() -> bool:
            now_s = time.monotonic()
            for name in half_written(place):
                first_s.setdefault(name, now_s)
                last_s[name] = now_s
            return False

        wait_for(look, process, POLL_S)
        _, err = process.communicate()
    if process.returncode != 0 or not first_s:
        raise SystemExit(f"without any disturbance, ncsnx {' '.join(command)} failed: {err}")
    return time.monotonic() - begun_s, sum(last_s[name] - first_s[name] for name in first_s) / len(first_s)


def wait_for(condition: Callable[[], bool], process: "subprocess.Popen[str]", poll_s: float = 0.002) -> bool:
    """Waits until the condition holds; False if the process ends before. Ends the trials if neither happens."""
    end_s = time.monotonic() + LOOK_AFTER_S
    while not condition():
        if process.poll() is not None:
            return False
        if time.monotonic() > end_s:
            process.kill()
            raise SystemExit(f"what was waited for never came: {process.communicate()[1]}")
        time.sleep(poll_s)
    return True


def holds(path: Path, text: str = "") -> Callable[[], bool]:
    """Whether a file exists and contains `text`."""
    return partial(_holds, path, text)


def _holds(path: Path, text: str) -> bool:
    return path.exists() and text in path.read_text(errors="replace")
