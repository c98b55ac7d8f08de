import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ncsnx.errors import NcsnxError, Stopped
from ncsnx.networks.layers import Convolution
from ncsnx.stopping import StopRequest, signals_raise
from tests.training.tiny import saved, steps_of
from tests.training.watched import Events, Training

Handling = Callable[[], contextlib.AbstractContextManager[Any]]
NAMES = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C", signal.SIGHUP: "SIGHUP"}
CODES = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: 129}


@pytest.mark.parametrize(("number", "code"), CODES.items())
def test_a_signal_is_noted_and_raised_when_asked(number: signal.Signals, code: int) -> None:
    before = signal.getsignal(number)
    with StopRequest() as stop:
        stop.check()
        assert not stop.requested
        os.kill(os.getpid(), number)
        assert stop.requested
        with pytest.raises(Stopped, match=f"^stopped by {NAMES[number]}$") as caught:
            stop.check()
    assert caught.value.exit_code == code
    assert signal.getsignal(number) == before


def test_the_first_signal_gives_the_exit_code_and_only_a_second_ctrl_c_interrupts() -> None:
    with StopRequest(ends_process=False) as stop:
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
        with pytest.raises(Stopped), stop.interruptible():
            work()
        assert done == []
    with StopRequest():
        work()  # outside `interruptible`, signals wait until they are checked
    assert done == ["went on"]


@pytest.mark.parametrize("number", CODES)
def test_a_signal_before_the_request_is_raised_and_not_forgotten(number: signal.Signals) -> None:
    before = signal.getsignal(number)

    def work() -> None:
        with pytest.raises(Stopped, match=f"stopped by {NAMES[number]}"):
            os.kill(os.getpid(), number)
        with StopRequest() as stop:
            assert stop.signal_number == number

    with pytest.raises(Stopped), signals_raise():
        work()
    assert signal.getsignal(number) == before


@contextlib.contextmanager
def request_at_once() -> Iterator[None]:
    with StopRequest() as stop, stop.interruptible():
        yield


@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("handles", [signals_raise, request_at_once])
def test_a_second_signal_disturbs_no_cleanup(number: signal.Signals, second: signal.Signals, handles: Handling) -> None:
    """A closed terminal sends SIGHUP, and so does its shell; batch schedulers signal again and again."""
    left = []

    def work() -> None:
        try:
            os.kill(os.getpid(), number)
        finally:
            os.kill(os.getpid(), second)
            left.append("removed what was half written")

    with pytest.raises(Stopped, match=f"stopped by {NAMES[number]}"), handles():
        work()
    assert left


@contextlib.contextmanager
def in_disguise() -> Iterator[None]:
    """Python 3.11 wraps the exception if it is raised while a class is created, as torch does on import."""
    try:
        yield
    except BaseException as error:
        raise RuntimeError("Error calling __set_name__") from error


@contextlib.contextmanager
def failing() -> Iterator[None]:
    try:
        yield
    except BaseException:
        raise NcsnxError("no space for the checkpoint") from None


@pytest.mark.parametrize("handles", [signals_raise, request_at_once])
@pytest.mark.parametrize(
    ("around", "told"),
    [
        (partial(contextlib.suppress, Exception), "stopped by SIGTERM"),
        (partial(contextlib.suppress, BaseException), "stopped by SIGTERM"),
        (in_disguise, "stopped by SIGTERM"),
        (failing, "no space for the checkpoint"),
    ],
)
def test_a_stop_outlives_those_who_catch_it_and_errors_are_told(handles: Handling, around: Handling, told: str) -> None:
    def work() -> None:
        with around():
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises((NcsnxError, Stopped), match=told) as raised, handles():
        work()
    assert isinstance(raised.value, Stopped) == told.startswith("stopped")


@pytest.mark.parametrize("handles", [signals_raise, StopRequest])
def test_a_sighup_that_is_ignored_stays_ignored(handles: Handling) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with handles() as stop:
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop is None or not stop.requested
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


# one Python instruction, during which no handler can run but other threads can
BUSY = """
import hashlib
from ncsnx.stopping import StopRequest
with StopRequest() as stop:
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
    print("went on", flush=True)
"""


@pytest.mark.parametrize("is_heard", [True, False])
def test_a_second_ctrl_c_ends_even_what_runs_no_python_with_or_without_a_reader(is_heard: bool) -> None:
    with subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        if not is_heard:
            process.stderr.close()
        time.sleep(0.3)
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(0.1)
        try:
            out, err = process.communicate(timeout=10)
        finally:
            process.kill()
    assert (process.returncode, out) == (130, b"")
    assert err == (b"error: interrupted\n" if is_heard else b"")


def test_the_signals_of_a_forked_process_are_its_own() -> None:
    with StopRequest() as stop:
        if (child := os.fork()) == 0:
            for number in (signal.SIGINT, signal.SIGINT):
                signal.signal(number, lambda *_: None)
                os.kill(os.getpid(), number)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        time.sleep(1.5)  # longer than a second Ctrl-C takes
        assert not stop.requested


@pytest.mark.parametrize(("forward_pass", "step"), [(12, 3), (14, 3)])
def test_a_stop_is_heeded_after_its_pass_and_costs_nothing(tmp_path: Path, forward_pass: int, step: int) -> None:
    """The stop comes in the last of 4 passes of step 3 or in the second of step 4; step 3 has a held-out loss."""
    # batch normalization updates its averages in every pass: those of an incomplete step must be restored
    changes = ("model.normalization=batch", "accumulation=4", "log_every=1", "snapshots=none", "steps=5")

    def trained(training: Training, at: Callable[[int], object]) -> int:
        """Trains or resumes, and reports each forward pass; returns their number."""
        passes = 0

        def count(*_: Any) -> None:
            nonlocal passes
            passes += 1
            at(passes)

        if steps_of(training.run.path):
            training.resume()
        convolution = next(module for module in training.state.network.modules() if isinstance(module, Convolution))
        convolution.register_forward_hook(count)
        with contextlib.suppress(Stopped), StopRequest() as stop:
            training.train(Events(), stop)
        return passes

    straight, stopped = (Training(tmp_path, *changes, name=name) for name in ("a", "b"))
    assert trained(straight, lambda number: None) == 20
    assert trained(stopped, lambda number: number == forward_pass and os.kill(os.getpid(), 15)) == forward_pass
    assert steps_of(stopped.run.path) == [step]
    assert trained(stopped, lambda number: None) == 4 * (5 - step)
    assert saved(stopped.run.path, 5) == saved(straight.run.path, 5)
    assert stopped.run.metrics_path.read_bytes() == straight.run.metrics_path.read_bytes()
