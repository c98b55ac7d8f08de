"""Checkpoints are written in the background, with the promises of checkpoints that training waits for."""

import errno
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from ncsnx.errors import NcsnxError, Stopped
from ncsnx.stopping import StopRequest
from ncsnx.storage import atomic
from ncsnx.training.observer import CHECKPOINT, SAMPLING
from tests.training.tiny import lines, saved, steps_of
from tests.training.watched import Events, Training

PATIENCE_S = 20.0
SHORT_S = 0.1


class Disk:
    """The disk as the writer's thread sees it: a write may wait, and then fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free = threading.Event()
        self.free.set()
        self.fails = False
        self.wrote_at_once = 0
        """Most files that were written at the same time."""
        self._writing = 0
        plain = atomic._write_all

        def write(descriptor: int, content: bytes | memoryview) -> None:
            if threading.current_thread() is threading.main_thread():
                plain(descriptor, content)
                return
            self._writing += 1
            self.wrote_at_once = max(self.wrote_at_once, self._writing)
            assert self.free.wait(PATIENCE_S), "training waits for the write"
            if self.fails:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            plain(descriptor, content)
            self._writing -= 1

        monkeypatch.setattr(atomic, "_write_all", write)

    def free_later(self) -> None:
        threading.Timer(SHORT_S, self.free.set).start()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def test_steps_go_on_while_a_checkpoint_is_written_and_the_next_one_waits(tmp_path: Path, disk: Disk) -> None:
    straight = Training(tmp_path, "eval_every=100", "snapshots=none", name="straight")
    straight.train(Events())

    def react(name: str, value: Any) -> None:
        if (name, value) == ("step", 4):
            disk.free.clear()
        if (name, value) == ("step", 8):
            assert steps_of(training.run.path) == []
            assert len(atomic.debris(training.run.checkpoints)) == 1
            # the metrics come first: if the process is killed now or later, they are never recorded again
            assert lines(training.run.metrics_path)[1]["step"] == 4
            disk.free_later()  # the checkpoint of step 8 is due

    training, events = Training(tmp_path, "eval_every=100", "snapshots=none"), Events(react)
    training.train(events)
    happened = [(name, value) for name, value in events.seen if name in ("step", "checkpoint")]
    assert happened.index(("step", 8)) < happened.index(("checkpoint", 4)) < happened.index(("step", 9))
    assert [value for name, value in happened if name == "checkpoint"] == [4, 8, 12]
    assert events.seen[events.seen.index(("checkpoint", 4)) - 1] == ("phase", CHECKPOINT)
    assert disk.wrote_at_once == 1
    for step in (4, 8, 12):
        assert saved(training.run.path, step) == saved(straight.run.path, step)


def test_a_write_that_fails_ends_the_training_at_the_next_step(tmp_path: Path, disk: Disk) -> None:
    def react(name: str, value: Any) -> None:
        if (name, value) == ("step", 8):
            disk.free.clear()
            disk.fails = True
        if (name, value) == ("step", 9):
            disk.free.set()
            while atomic.debris(training.run.checkpoints):  # removed once the write has failed
                pass

    training = Training(tmp_path, "eval_every=100", "snapshots=none")
    with pytest.raises(NcsnxError) as caught:
        training.train(Events(react))
    path = training.run.checkpoints / "step-00000008"
    assert f"cannot write {path}" in str(caught.value)
    assert str(caught.value).endswith("No space left on device; free some space, then repeat the command")
    assert caught.value.exit_code == 1
    assert training.state.step in (9, 10)
    assert steps_of(training.run.path) == [4]
    assert atomic.debris(training.run.checkpoints) == []


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("stopped", [4, 5])
def test_a_stop_leaves_a_checkpoint_or_says_why_not(tmp_path: Path, disk: Disk, stopped: int, fails: bool) -> None:
    def react(name: str, value: Any) -> None:
        if (name, value) == ("step", 4):
            disk.free.clear()
            disk.fails = fails
        if (name, value) == ("step", stopped):
            os.kill(os.getpid(), signal.SIGTERM)
            disk.free_later()

    training = Training(tmp_path, "eval_every=100", "snapshots=none")
    with StopRequest() as stop, pytest.raises(NcsnxError if fails else Stopped) as caught:
        training.train(Events(react), stop)
    if isinstance(caught.value, Stopped):
        assert caught.value.exit_code == 143
    assert steps_of(training.run.path) == ([] if fails else sorted({4, stopped}))
    assert atomic.debris(training.run.checkpoints) == []


@pytest.mark.parametrize("fails", [False, True])
def test_another_error_comes_first_and_waits_for_the_write(tmp_path: Path, disk: Disk, fails: bool) -> None:
    def react(name: str, value: Any) -> None:
        if (name, value) == ("step", 4):
            disk.free.clear()
            disk.fails = fails
        if (name, value) == ("step", 5):
            disk.free_later()
            raise NcsnxError("the step failed")

    training, events = Training(tmp_path, "eval_every=100", "snapshots=none"), Events(react)
    with pytest.raises(NcsnxError, match=r"^the step failed$"):
        training.train(events)
    assert steps_of(training.run.path) == ([] if fails else [4])
    name, value = events.seen[-1]
    assert (name, "cannot write" in str(value)) == (("warning", True) if fails else ("checkpoint", False))


def test_an_interrupt_does_not_leave_a_write_behind(tmp_path: Path, disk: Disk) -> None:
    """The lock of the run is the caller's, and is released after the training."""

    def react(name: str, value: Any) -> None:
        if (name, value) == ("step", 4):
            disk.free.clear()
        if (name, value) == ("step", 5):
            threading.Timer(SHORT_S, lambda: os.kill(os.getpid(), signal.SIGINT)).start()  # within the wait
            threading.Timer(3 * SHORT_S, disk.free.set).start()
            raise KeyboardInterrupt

    training = Training(tmp_path, "eval_every=100", "snapshots=none")
    with pytest.raises(KeyboardInterrupt):
        training.train(Events(react))
    assert disk.free.is_set()
    assert steps_of(training.run.path) == [4]
    assert atomic.debris(training.run.checkpoints) == []


def test_a_grid_is_drawn_beside_the_write_and_saved_after_it(tmp_path: Path, disk: Disk) -> None:
    training = Training(tmp_path, "eval_every=100")

    def react(name: str, value: Any) -> None:
        if (name, value) == ("step", 4):
            disk.free.clear()
        if (name, value) == ("phase", SAMPLING) and not disk.free.is_set():
            assert steps_of(training.run.path) == []
        if name == "sampling" and value[0] == value[1]:
            disk.free_later()
        if name == "checkpoint":
            assert not (training.run.snapshots / f"step-{value:08d}.png").exists()

    events = Events(react)
    training.train(events)
    assert sorted(path.name for path in training.run.snapshots.iterdir()) == [
        f"step-{step:08d}.png" for step in (4, 8, 12)
    ]
    assert events.seen.index(("phase", SAMPLING)) < events.seen.index(("checkpoint", 4))
