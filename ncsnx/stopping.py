"""Clean shutdown: a signal sets a flag, which is read between network evaluations; a second Ctrl-C ends at once.

Code deep within a job, such as a network in tiles or a reader of pictures, reads the flag by `check_stop`.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType
from typing import Any, Self

from ncsnx.errors import NcsnxError, Stopped

_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
"""SIGTERM of kill and of batch schedulers, SIGHUP of a terminal that is closed, SIGINT of Ctrl-C."""
_OVER = b"\0"

# A forked process shares the wakeup pipe: its signals would count as ours.
os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))


_check: ContextVar[Callable[[], None]] = ContextVar("check_stop", default=lambda: None)


def check_stop() -> None:
    """Raises Stopped if the job that this code is part of was asked to stop."""
    _check.get()()


@contextmanager
def stopped_by(check: Callable[[], None]) -> Iterator[None]:
    """Within the block, `check_stop` of this thread calls `check`."""
    token = _check.set(check)
    try:
        yield
    finally:
        _check.reset(token)


class StopRequest:
    """Turns SIGTERM, SIGHUP and the first Ctrl-C in its block into a request to stop.

    A SIGHUP that was ignored when the process started, as under nohup, stays ignored.
    """

    def __init__(self, *, ends_process: bool = True) -> None:
        """ends_process: whether a second Ctrl-C ends the process, wherever it is; otherwise it raises
        KeyboardInterrupt as soon as Python runs.
        """
        self.signal_number: int | None = None
        """The first signal that arrived; None before."""
        self._ends_process = ends_process
        self._raises = False
        self._interrupts = 0
        self._entered = contextlib.ExitStack()

    @property
    def requested(self) -> bool:
        """Whether a signal has arrived."""
        return self.signal_number is not None

    def request(self, signal_number: int = signal.SIGTERM) -> None:
        """Asks for a stop, as if this signal had arrived: for one at another rank, and for callers in other threads."""
        if self.signal_number is None:
            self.signal_number = signal_number

    def check(self) -> None:
        """Raises Stopped if a signal has arrived."""
        if self.signal_number is not None:
            raise Stopped(f"stopped by {signal_name(self.signal_number)}", self.signal_number)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Within the block a signal raises Stopped at once, not only in `check`.

        For long work that doesn't call `check` and can be interrupted anywhere, since our writes are atomic. Signals
        after the first raise nothing more: that would keep blocks from removing half-written files.
        """
        self.check()
        self._raises = True
        try:
            yield
        except NcsnxError:
            raise
        except Exception:
            self.check()  # Python 3.11 wraps exceptions that are raised while a class is created
            raise
        finally:
            self._raises = False
        self.check()  # code in the block that catches everything may have caught Stopped

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as entered:
            for number in _SIGNALS:
                before: Any = signal.getsignal(number)
                if number != signal.SIGHUP or before is not signal.SIG_IGN:
                    signal.signal(number, self._handle)
                    entered.callback(signal.signal, number, before)
                if isinstance(outer := getattr(before, "__self__", None), StopRequest) and outer.requested:
                    self.signal_number = outer.signal_number  # something caught its Stopped
            if self._ends_process:
                entered.enter_context(_ending_at_second_interrupt())
            self._entered = entered.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._entered.close()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.request(number)
        self._interrupts += number == signal.SIGINT
        if self._interrupts > 1 and number == signal.SIGINT:
            raise KeyboardInterrupt
        if self._raises:
            self._raises = False
            if getattr(getattr(sys.modules.get("torch"), "__spec__", None), "_initializing", False):
                signal.signal(number, signal.SIG_DFL)  # C++ that imports torch aborts where Python raises
                signal.raise_signal(number)
            self.check()


@contextmanager
def signals_raise() -> Iterator[None]:
    """Within the block SIGTERM, SIGHUP and Ctrl-C raise Stopped: for work without a StopRequest.

    Without it SIGTERM would end the process silently and without leaving its blocks, as while torch is imported.
    """
    with StopRequest(ends_process=False) as stop, stop.interruptible():
        yield


@contextmanager
def _ending_at_second_interrupt() -> Iterator[None]:
    """Within the block a second Ctrl-C ends the process, even while the main thread runs no Python.

    Python runs signal handlers between two bytecode instructions, and once for all signals that arrived meanwhile:
    within one network evaluation, which may take a minute, a second Ctrl-C would be neither noticed nor counted. So a
    thread reads the number of every signal from a pipe, into which it is written as it arrives.
    """
    read, write = os.pipe()
    os.set_blocking(write, False)
    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)

    def count() -> None:
        interrupts = 0
        while (byte := os.read(read, 1)) != _OVER:
            interrupts += byte[0] == signal.SIGINT
            if interrupts > 1:
                shown = "\x1b[?25h\n" if os.isatty(2) else ""  # a live view hides the cursor
                with contextlib.suppress(OSError):  # the terminal or the pipe's reader is closed
                    os.write(2, f"{shown}error: interrupted\n".encode())
                os._exit(128 + signal.SIGINT)

    thread = threading.Thread(target=count, name="Ctrl-C", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.write(write, _OVER)
        thread.join()
        os.close(read)
        os.close(write)


def signal_name(number: int) -> str:
    """Common name of a signal: 'Ctrl-C' or 'SIGTERM'."""
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
