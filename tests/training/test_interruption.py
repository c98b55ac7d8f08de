"""Kills, signals and a closed terminal in the middle of a training: nothing is lost, and it resumes to the bit."""

import contextlib
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.forked import REPOSITORY, fork
from tests.training.tiny import (
    command,
    events,
    files,
    lines,
    saved,
    steps_of,
    training,
    wait_for_the_next_second,
    wait_until,
)

# long enough to be killed at any point: 24 steps, a checkpoint every 4, a grid every 8
LONG = training("steps=24", "checkpoint_every=4", "snapshots.every=2", "eval_every=4")
FOR_EVER = ("steps=100k", "checkpoint_every=100k", "log_every=1")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The uninterrupted run of LONG."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert command(*LONG, folder=folder).code == 0
    return folder / "runs/digits"


def killed(folder: Path, moment: Callable[[], bool], delay_s: float = 0) -> None:
    """Starts or resumes LONG and ends it by SIGKILL after the condition holds."""
    with fork(*LONG, folder=folder) as process:
        wait_until(moment, process, poll_s=0)
        time.sleep(delay_s)
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL


def half_written(run: Path) -> list[Path]:
    return list((run / "checkpoints").glob(".step-*"))


def assert_equal_runs(run: Path, expected: Path) -> None:
    assert steps_of(run) == steps_of(expected)
    for step in steps_of(expected):
        assert saved(run, step) == saved(expected, step)
    assert (run / "metrics.jsonl").read_bytes() == (expected / "metrics.jsonl").read_bytes()
    for name in ("loss/training_raw", "loss/held_out_ema"):
        assert events(run, name) == events(expected, name)
    for path in (expected / "snapshots").iterdir():
        assert (run / "snapshots" / path.name).read_bytes() == path.read_bytes()
    assert half_written(run) == []


def test_a_run_killed_in_a_write_ends_like_one_that_wasnt(tmp_path: Path, uninterrupted: Path) -> None:
    run = tmp_path / "runs/digits"
    for _ in range(5):
        # not the first checkpoint, so that there is one to resume from
        killed(tmp_path, lambda: steps_of(run) != [] and half_written(run) != [])
        if half_written(run):  # otherwise it was faster than the signal
            break
    assert half_written(run) != []
    wait_for_the_next_second()
    assert command(*LONG, folder=tmp_path).code == 0
    assert_equal_runs(run, uninterrupted)


def test_a_signal_ends_the_run_with_a_checkpoint_of_its_step_and_is_told_once(tmp_path: Path) -> None:
    run = tmp_path / "runs/digits"
    with fork(*training(*FOR_EVER), folder=tmp_path) as process:
        wait_until((run / "metrics.jsonl").exists, process)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    (told,) = [line for line in err.splitlines() if "stopped" in line]
    assert "SIGINT" not in err
    assert "Traceback" not in err
    (step,) = steps_of(run)
    assert told == f"stopped by Ctrl-C; the same command resumes from step {step:,}"
    assert lines(run / "metrics.jsonl")[-1]["step"] == step
    log = (run / "log.txt").read_text()
    assert (log.count("stopped by Ctrl-C"), log.count(f"ended at step {step}/")) == (1, 1)
    straight = tmp_path / "straight"
    straight.mkdir()
    # from there, training continues as if nothing had happened
    ahead = f"steps={step + 5}"
    resumed = command(*training(*FOR_EVER[1:], ahead, "snapshots=none"), folder=tmp_path)
    assert (resumed.code, f"from step {step:,}" in resumed.err) == (0, True)
    assert command(*training(*FOR_EVER[1:], ahead, "snapshots=none"), folder=straight).code == 0
    assert saved(run, step + 5) == saved(straight / "runs/digits", step + 5)
    assert (run / "metrics.jsonl").read_bytes() == (straight / "runs/digits/metrics.jsonl").read_bytes()


# a process that owns the terminal on its standard input, like a foreground job of a shell
ON_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "ncsnx", *sys.argv[1:]])
"""


def test_a_terminal_that_is_closed_ends_the_run_with_a_checkpoint(tmp_path: Path) -> None:
    run = tmp_path / "runs/digits"
    controller, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", ON_TERMINAL, *training(*FOR_EVER, "--workers=1")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "TERM": "xterm"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    ) as process:
        os.close(terminal)
        with contextlib.suppress(OSError):
            while not (run / "metrics.jsonl").exists():
                assert os.read(controller, 4096), "it has ended"
        os.close(controller)
        process.wait(timeout=30)
    assert process.returncode == 129
    (step,) = steps_of(run)
    log = (run / "log.txt").read_text()
    assert (log.count("stopped by SIGHUP"), log.count(f"ended at step {step}/")) == (1, 1)
    assert "Traceback" not in log


def test_a_signal_while_a_grid_is_sampled_ends_the_run_and_the_grid_comes_later(tmp_path: Path) -> None:
    run = tmp_path / "runs/digits"
    slow = training("steps=6", "sampler.steps_per_level=1M")
    with fork(*slow, folder=tmp_path) as process:
        wait_until(lambda: (run / "log.txt").exists() and "sampling\n" in (run / "log.txt").read_text(), process)
        process.terminate()
        _, err = process.communicate(timeout=30)
    assert process.returncode == 143
    assert "Traceback" not in err
    assert steps_of(run) == [4]
    assert not (run / "snapshots").exists()
    before = saved(run, 4)
    assert command(*training("steps=6"), folder=tmp_path).code == 0
    assert saved(run, 4) == before
    (tmp_path / "straight").mkdir()
    assert command(*training("steps=6"), folder=tmp_path / "straight").code == 0
    grids = files(run / "snapshots")
    assert sorted(grids) == ["step-00000004.png", "step-00000006.png"]
    assert grids == files(tmp_path / "straight/runs/digits/snapshots")
