"""Item 4: a second trainer on a run in training, and a trainer after one that was killed."""

import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.chaos.report import Tally
from tests.chaos.trials import PATIENCE_S, debris, finish, finish_after, one_line
from tests.chaos.watching import holds, wait_for
from tests.cli.command import REPOSITORY
from tests.training.tiny import CPU, Result, start, training

SECONDS = 5
"""Number of second trainers, and of kills."""
LIMIT_S = 2.0
"""Largest time from the first try of the lock to the end of the process, in seconds."""
WHOLE_S = 10.0
"""Largest time from start to end of the process, with imports and checks before the lock, in seconds."""
FOR_EVER = training("steps=100k", "checkpoint_every=100k", "log_every=1", "snapshots=none")
TIMED = """
import ncsnx.runs.writer_lock as lock, time
class Timed(lock.FileLock):
    def acquire(self, *arguments, **named):
        global tried_s
        tried_s = time.monotonic()
        return super().acquire(*arguments, **named)
lock.FileLock = Timed
import atexit
atexit.register(lambda: print(f"lock: {time.monotonic() - tried_s:.3f}", flush=True))
"""
"""Prints the seconds from the first try of the lock to the end of the process."""
TAKE = """
import sys, time
from pathlib import Path
from ncsnx.runs.folder import Run
from ncsnx.runs.writer_lock import writer_lock
print("ready", flush=True)
sys.stdin.readline()
begun_s = time.monotonic()
with writer_lock(Run(Path("runs/digits"))):
    print(f"{time.monotonic() - begun_s:.4f}", flush=True)
"""


def trials(tally: Tally, folder: Path) -> None:
    chance = random.Random(f"writers {tally.seed}")
    tried_s: list[float] = []
    whole_s: list[float] = []
    free_s: list[float] = []
    for number in range(SECONDS):
        place = folder / f"run-{number}"
        place.mkdir()
        metrics = place / "runs/digits/metrics.jsonl"
        with start(*FOR_EVER, folder=place) as first:
            if not wait_for(holds(metrics, "loss"), first):
                raise SystemExit(f"the first trainer does not train: {first.communicate()[1]}")
            time.sleep(chance.uniform(0, 0.5))
            _second(tally, number, place, first.pid, tried_s, whole_s)
            _third(tally, number, place, first.pid, whole_s)
            _killed(tally, number, place, first, free_s)
    tally.facts.append(f"refused {max(tried_s):.2f} s after the lock was tried, at most; limit {LIMIT_S:.0f} s")
    tally.facts.append(f"ended {max(whole_s):.2f} s after the process was started, at most; limit {WHOLE_S:.0f} s")
    tally.facts.append(f"the lock of a killed trainer was taken in {max(free_s):.4f} s, at most")


def _second(tally: Tally, number: int, place: Path, pid: int, tried_s: list[float], whole_s: list[float]) -> None:
    """A second trainer is refused promptly with the name of the first, which isn't affected."""
    result, problems = _within(whole_s, lambda: finish(*FOR_EVER, folder=place))
    problems += one_line(result, f"process {pid} on {socket.gethostname()}", "ncsnx")
    timed, slow = _within(whole_s, lambda: finish_after(TIMED, *FOR_EVER, folder=place))
    problems += slow
    tried_s.append(float(timed.out.partition("lock: ")[2] or "inf"))
    if tried_s[-1] > LIMIT_S:
        problems.append(f"refused {tried_s[-1]:.2f} s after the lock was tried")
    tally.trial(f"{number}: a second trainer", problems)
    tally.count("second trainers refused, naming process and host", 2)


def _third(tally: Tally, number: int, place: Path, pid: int, whole_s: list[float]) -> None:
    """A trainer of another experiment, or with other options, is refused too."""
    result, problems = _within(whole_s, lambda: finish(*FOR_EVER, "optimizer.lr=0.5", folder=place))
    problems += one_line(result, f"process {pid} on ")
    tally.trial(f"{number}: a second trainer of another experiment", problems)
    tally.count("second trainers refused, naming process and host")


def _within(whole_s: list[float], trainer: Callable[[], Result]) -> tuple[Result, list[str]]:
    """Result of a refused trainer, and a problem if it took too long."""
    begun_s = time.monotonic()
    result = trainer()
    whole_s.append(time.monotonic() - begun_s)
    return result, [f"it took {whole_s[-1]:.2f} s from its start"] if whole_s[-1] > WHOLE_S else []


def _killed(tally: Tally, number: int, place: Path, first: "subprocess.Popen[str]", free_s: list[float]) -> None:
    """After SIGKILL a waiting process gets the lock at once, and the next trainer resumes."""
    waiting = subprocess.Popen(
        [sys.executable, "-c", TAKE],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert waiting.stdout is not None
    waiting.stdout.readline()
    first.kill()
    first.wait(PATIENCE_S)
    out, _ = waiting.communicate("\n", timeout=PATIENCE_S)
    problems = [] if waiting.returncode == 0 else ["the lock was not free"]
    free_s.append(float(out or "inf"))
    result = finish(*training("steps=4", "checkpoint_every=100k", "snapshots=none"), *CPU, folder=place)
    if result.code != 0:
        problems.append(f"the next trainer ended with {result.code}: {result.err}")
    problems += debris(place)
    if (place / "runs/digits/.holder.json").exists():
        problems.append("the note of a holder stayed behind")
    tally.trial(f"{number}: the lock after SIGKILL", problems)
    tally.count("locks free at once after SIGKILL")
