"""A second trainer on a run in training, and a trainer after one that was killed."""

import os
import random
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.chaos.trials import assert_one_error, debris, finish, holds
from tests.forked import REPOSITORY
from tests.training.tiny import PATIENCE_S, attempt, start, training, wait_until

pytestmark = pytest.mark.chaos

FOR_EVER = training("steps=100k", "checkpoint_every=100k", "log_every=1", "snapshots=none")
LIMIT_S = 2.0
"""Largest time from the first try of the lock to the end of the process, in seconds."""
TIMED = """
import atexit, time
import ncsnx.runs.writer_lock as lock
class Timed(lock.FileLock):
    def acquire(self, *arguments, **named):
        global tried_s
        tried_s = time.monotonic()
        return super().acquire(*arguments, **named)
lock.FileLock = Timed
atexit.register(lambda: print(f"lock: {time.monotonic() - tried_s:.3f}", flush=True))
"""
"""Prints the seconds from the first try of the lock to the end of the process."""
TAKE = """
import sys
from pathlib import Path
from ncsnx.runs.folder import Run
from ncsnx.runs.writer_lock import writer_lock
print("ready", flush=True)
sys.stdin.readline()
with writer_lock(Run(Path("runs/digits"))):
    print("taken", flush=True)
"""


@pytest.mark.parametrize("number", range(3))
def test_a_run_has_one_trainer_whose_lock_is_free_once_it_is_killed(
    number: int, chance: random.Random, tmp_path: Path
) -> None:
    with start(*FOR_EVER, folder=tmp_path) as first:
        wait_until(holds(tmp_path / "runs/digits/metrics.jsonl", "loss"), first)
        time.sleep(chance.uniform(0, 0.5))
        for changes in ((), ("optimizer.lr=0.5",)):  # the same experiment and another one
            second = attempt(*FOR_EVER, *changes, folder=tmp_path, prelude=TIMED)
            assert_one_error(second, f"process {first.pid} on {socket.gethostname()}")
            took_s = re.search(r"lock: ([\d.]+)", second.out)
            assert took_s is not None
            assert float(took_s[1]) < LIMIT_S
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        waiting = subprocess.Popen(
            [sys.executable, "-c", TAKE],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert waiting.stdout is not None
        waiting.stdout.readline()
        first.kill()
        first.wait(PATIENCE_S)
        assert waiting.communicate("\n", timeout=PATIENCE_S)[0] == "taken\n"
    finish(*training("steps=4", "checkpoint_every=100k", "snapshots=none"), folder=tmp_path)
    assert debris(tmp_path) == []
    assert not (tmp_path / "runs/digits/.holder.json").exists()
