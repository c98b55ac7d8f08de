"""Seeing from outside what a training process does: which checkpoints are being written, and for how long."""

import subprocess
import time
from pathlib import Path

from tests.training.tiny import start

POLL_S = 0.0003
LOOK_AFTER_S = 60.0


def half_written(place: Path) -> set[str]:
    """The names of the temporary folders in which checkpoints of `place`'s run are, or were, being written."""
    return {path.name for path in (place / "runs/digits/checkpoints").glob(".step-*.tmp-*")}


def wait_for_write(place: Path, process: "subprocess.Popen[str]", number: int, before: set[str]) -> None:
    """Returns when the `number`-th temporary folder beyond `before` has appeared, or the process has ended."""
    seen: set[str] = set()
    while len(seen) < number and process.poll() is None:
        seen |= half_written(place) - before
        time.sleep(POLL_S)


def times_of(command: list[str], place: Path) -> tuple[float, float]:
    """(seconds of the whole process, mean seconds of the write of a checkpoint) of a command, by watching it."""
    begun_s = time.monotonic()
    first_s: dict[str, float] = {}
    last_s: dict[str, float] = {}
    with start(*command, folder=place) as process:
        while process.poll() is None:
            now_s = time.monotonic()
            for name in half_written(place):
                first_s.setdefault(name, now_s)
                last_s[name] = now_s
            time.sleep(POLL_S)
        _, err = process.communicate()
    if process.returncode != 0 or not first_s:
        raise SystemExit(f"without any disturbance, ncsnx {' '.join(command)} failed: {err}")
    return time.monotonic() - begun_s, sum(last_s[name] - first_s[name] for name in first_s) / len(first_s)


def wait_for(path: Path, process: "subprocess.Popen[str]", text: str = "") -> bool:
    """Waits until a file is there and holds `text`; False if the process ends before that."""
    end_s = time.monotonic() + LOOK_AFTER_S
    while time.monotonic() < end_s:
        if path.exists() and text in path.read_text():
            return True
        if process.poll() is not None:
            return False
        time.sleep(0.002)
    return False
