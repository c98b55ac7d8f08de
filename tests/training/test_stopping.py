import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ncsnx.config.discovery import resolve
from ncsnx.data import open_data
from ncsnx.errors import Stopped
from ncsnx.networks.convolution import Convolution
from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import resolve_checkpoint
from ncsnx.runtime import Runtime
from ncsnx.stopping import StopRequest, sigterm_raises
from ncsnx.training.loop import train
from ncsnx.training.state import TrainingState
from tests.cli.command import REPOSITORY
from tests.training.tiny import overrides, saved, steps_of


def test_handlers_are_given_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with StopRequest():
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_is_noted_and_raised_when_asked(number: signal.Signals, code: int) -> None:
    with StopRequest() as stop:
        stop.check()
        assert not stop.requested
        os.kill(os.getpid(), number)
        assert stop.requested
        with pytest.raises(Stopped, match=f"stopped by {number.name}") as caught:
            stop.check()
    assert caught.value.exit_code == code


def test_the_first_signal_gives_the_exit_code_and_only_a_second_ctrl_c_interrupts() -> None:
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal_number == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_what_asks_nobody_is_left_at_once_where_it_is_allowed() -> None:
    done = []

    def work() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        done.append("went on")

    with StopRequest() as stop:
        with pytest.raises(Stopped), stop.at_once():
            work()
        assert done == []
    with StopRequest():
        work()  # outside, signals wait to be asked for
    assert done == ["went on"]


def test_who_catches_everything_only_puts_the_end_off() -> None:
    def work() -> None:
        with contextlib.suppress(Exception):
            os.kill(os.getpid(), signal.SIGTERM)

    with StopRequest() as stop, pytest.raises(Stopped), stop.at_once():
        work()


def test_a_sigterm_before_the_request_is_raised_and_not_forgotten() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with sigterm_raises():
        with pytest.raises(Stopped, match="stopped by SIGTERM"):
            os.kill(os.getpid(), signal.SIGTERM)
        with StopRequest() as stop:
            assert stop.signal_number == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before


# one instruction of Python, in which no handler can run, and which lets other threads do
BUSY = """
import hashlib
from ncsnx.stopping import StopRequest
with StopRequest() as stop:
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
    print("went on", flush=True)
"""


def test_a_second_ctrl_c_ends_even_what_runs_no_python() -> None:
    with subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.3)
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(0.1)
        out, err = process.communicate(timeout=10)
    assert (process.returncode, out) == (130, b"")
    assert err == b"error: interrupted\n"


def test_the_signals_of_a_forked_process_are_its_own() -> None:
    with StopRequest() as stop:
        if (child := os.fork()) == 0:
            for number in (signal.SIGINT, signal.SIGINT):
                signal.signal(number, lambda *_: None)
                os.kill(os.getpid(), number)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        time.sleep(1.5)  # longer than the grace after a second Ctrl-C
        assert not stop.requested


class _Unseen:
    """An observer that watches nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments, **named: None


@pytest.mark.parametrize(("forward_pass", "step"), [(12, 3), (14, 3)])
def test_a_stop_is_heeded_after_the_pass_it_comes_in_and_costs_nothing(
    tmp_path: Path, forward_pass: int, step: int
) -> None:
    """In the last of 4 passes of step 3 or in the second of step 4; a held-out loss is due at step 3."""
    # batch normalization moves its averages in every pass: those of an unfinished step have to be taken back
    changes = ("model.normalization=batch", "accumulation=4", "log_every=1", "snapshots=none", "steps=5")
    config = resolve("digits", overrides(*changes)).experiment
    runtime = Runtime.choose(device="cpu", threads=1)
    data = open_data(config.data, tmp_path)

    def trained(run: Run, at: Callable[[int], None]) -> int:
        """Trains from where the run stands, telling of each pass; returns how many there were."""
        state, passes = TrainingState(config, runtime), 0

        def count(*_: Any) -> None:
            nonlocal passes
            passes += 1
            at(passes)

        if steps_of(run.path):
            state.load(resolve_checkpoint(run))
        convolution = next(module for module in state.network.modules() if isinstance(module, Convolution))
        convolution.register_forward_hook(count)
        with contextlib.suppress(Stopped), StopRequest() as stop:
            train(state, data, run, runtime, _Unseen(), stop)
        return passes

    straight, stopped = (Run.create(tmp_path, name, config, {}, None, data.fingerprint) for name in ("a", "b"))
    assert trained(straight, lambda number: None) == 20
    assert trained(stopped, lambda number: os.kill(os.getpid(), 15) if number == forward_pass else None) == forward_pass
    assert steps_of(stopped.path) == [step]
    assert trained(stopped, lambda number: None) == 4 * (5 - step)
    assert saved(stopped.path, 5) == saved(straight.path, 5)
    assert stopped.metrics_path.read_bytes() == straight.metrics_path.read_bytes()


IMPORTING = """
import os, signal, sys
class Strike:
    # what native code of NumPy and torch imports while it is initialized itself
    left = [sys.argv[1]]
    def find_spec(self, name, path=None, target=None):
        if name in self.left:
            self.left.remove(name)
            os.kill(os.getpid(), signal.SIGTERM)
            for _ in range(1000):  # the handler runs between two of Python's instructions
                pass
        return None
sys.meta_path.insert(0, Strike())
from ncsnx.console.messages import Messages
from ncsnx.errors import Stopped
from ncsnx.stopping import StopRequest, sigterm_raises
try:
    with sigterm_raises():
        import torch
        with StopRequest() as stop, stop.at_once():
            print("not stopped")
except Stopped as stopped:
    print(stopped)
"""


@pytest.mark.parametrize("name", ["numpy._core.overrides", "numpy", "torch.storage", "torch._tensor"])
def test_a_signal_while_native_code_is_loaded_waits_for_its_end(name: str) -> None:
    finished = subprocess.run(
        [sys.executable, "-c", IMPORTING, name],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "stopped by SIGTERM\n", "")
