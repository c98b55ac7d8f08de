"""SIGKILL at random moments, most of them while a checkpoint is being written."""

import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.chaos.trials import LONG, finish, half_written, unlike
from tests.training.tiny import ended, start

pytestmark = pytest.mark.chaos

WHOLE_S = 8.0
"""About the time of an undisturbed process."""
SLOW_FILE_S, FILES = 0.05, 5
SLOW_DISK = f"""
import threading, time
import ncsnx.storage.atomic as atomic
plain = atomic.write_pieces
def write(*given, **named):
    if threading.current_thread() is not threading.main_thread():
        time.sleep({SLOW_FILE_S})
    plain(*given, **named)
atomic.write_pieces = write
"""
"""Slows the thread that writes checkpoints, so that training is steps ahead of it."""


def wait_for_write(place: Path, process: "subprocess.Popen[str]", before: set[str]) -> None:
    """Returns when the temporary folder of another checkpoint has appeared, or the process has ended."""
    while half_written(place) <= before and process.poll() is None:
        time.sleep(0.0003)


@pytest.mark.parametrize("number", range(10))
def test_a_run_that_is_killed_again_and_again_ends_like_an_undisturbed_one(
    number: int, chance: random.Random, undisturbed: Path, tmp_path: Path
) -> None:
    prelude, write_s = (SLOW_DISK, FILES * SLOW_FILE_S) if number % 2 else ("", 0.01)
    struck = kills = 0
    while kills < 4:
        before = half_written(tmp_path)
        with start(*LONG, folder=tmp_path, prelude=prelude) as process:
            if chance.random() < 0.75:
                wait_for_write(tmp_path, process, before)
                time.sleep(chance.uniform(0, write_s))
            else:
                time.sleep(chance.uniform(0, WHOLE_S))
            process.kill()
            result = ended(process)
        if result.code == 0:
            break
        assert result.code == -signal.SIGKILL, result.err
        struck += half_written(tmp_path) != before
        kills += 1
    assert kills
    assert struck or not prelude
    finish(*LONG, folder=tmp_path)
    assert unlike(tmp_path / "runs/digits", undisturbed / "runs/digits") == []
