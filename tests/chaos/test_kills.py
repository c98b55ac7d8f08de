"""SIGKILL at random moments, most of them while a checkpoint is being written."""

import random
import signal
import time
from pathlib import Path

import pytest

from ncsnx.storage.json_lines import last_records
from tests.chaos.trials import LONG, finish, half_written, unlike, wait_for
from tests.training.tiny import ended, start

pytestmark = pytest.mark.chaos

WHOLE_S = 8.0
"""About the time of an undisturbed process."""
WRITE_S = 0.01
"""About the time in which a checkpoint is written."""
SLOW_FILE_S = 0.05
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


def is_ahead(place: Path, written: set[str]) -> bool:
    """Whether steps were recorded beyond a checkpoint whose temporary folder is among these."""
    recorded = max((record["step"] for record in last_records(place / "runs/digits/metrics.jsonl")), default=0)
    return any(int(name.removeprefix(".step-").partition(".")[0]) < recorded for name in written)


@pytest.mark.parametrize("number", range(10))
def test_a_run_that_is_killed_again_and_again_ends_like_an_undisturbed_one(
    number: int, chance: random.Random, undisturbed: Path, tmp_path: Path
) -> None:
    is_slow = number % 2 == 1
    ahead = kills = 0
    while kills < 4:
        before = half_written(tmp_path)

        def is_writing(before: set[str] = before) -> bool:
            written = half_written(tmp_path) - before
            return bool(written) and (not is_slow or is_ahead(tmp_path, written))

        with start(*LONG, folder=tmp_path, prelude=SLOW_DISK if is_slow else "") as process:
            if kills == 0 or chance.random() < 0.75:  # the first one for certain
                wait_for(is_writing, process)
                time.sleep(0 if is_slow else chance.uniform(0, WRITE_S))
            else:
                time.sleep(chance.uniform(0, WHOLE_S))
            process.kill()
            result = ended(process)
        if result.code == 0:
            break
        assert result.code == -signal.SIGKILL, result.err
        ahead += is_ahead(tmp_path, half_written(tmp_path) - before)
        kills += 1
    assert kills
    assert ahead or not is_slow
    finish(*LONG, folder=tmp_path)
    assert unlike(tmp_path / "runs/digits", undisturbed / "runs/digits") == []
