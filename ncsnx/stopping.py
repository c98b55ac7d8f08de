"""Clean shutdown: a signal sets a flag, which is read between network evaluations."""

import contextlib
import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.machinery import ExtensionFileLoader
from types import FrameType, TracebackType
from typing import Any, Self

from ncsnx.errors import NcsnxError, Stopped

_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
"""SIGTERM of kill and of batch schedulers, SIGHUP of a terminal that is closed, SIGINT of Ctrl-C."""
_GRACE_S = 0.5
"""Time after a second Ctrl-C in which blocks can be left as usual, in seconds; then the process ends wherever it is."""
_AGAIN_S = 0.02
_NO_MORE = b"\0"
_IMPORTER = "<frozen importlib._bootstrap_external>"
_NATIVE = ("torch", "numpy")
"""Packages that run their own native code while they are imported."""

# A forked process shares the wakeup pipe: its signals would count as ours.
os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))


class StopRequest:
    """Turns SIGTERM, SIGHUP and the first Ctrl-C in its block into a request to stop; a second Ctrl-C ends the process.

    A signal that arrived earlier, within `signals_raise`, counts. A SIGHUP that was ignored when the process started,
    as under nohup, stays ignored.
    """

    def __init__(self, *, ends_process: bool = True) -> None:
        """ends_process: whether a second Ctrl-C ends the process, wherever it is; otherwise it raises
        KeyboardInterrupt as soon as Python runs.
        """
        self._handler = _Handler(ends_process=ends_process)
        self._entered = contextlib.ExitStack()

    @property
    def signal_number(self) -> int | None:
        """The first signal that arrived; None before."""
        return self._handler.signal_number

    @property
    def requested(self) -> bool:
        """Whether a signal has arrived."""
        return self.signal_number is not None

    def request(self, signal_number: int) -> None:
        """Asks for a stop, as if this signal had arrived; for a signal that arrived at another rank."""
        if self._handler.signal_number is None:
            self._handler.signal_number = signal_number

    def check(self) -> None:
        """Raises Stopped if a signal has arrived."""
        self._handler.check()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within the block a signal raises Stopped at once, not only in `check`.

        For long work that doesn't call `check` and can be interrupted anywhere, since our writes are atomic.
        """
        self._handler.raises = True
        try:
            self.check()
            yield
        except Exception as error:
            _raise_what_is_behind(error)
            raise
        finally:
            self._handler.raises = False
        self.check()  # code in the block that catches everything may have caught Stopped

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as entered:
            before = entered.enter_context(_handled_by(self._handler))
            early = before[signal.SIGTERM]
            if isinstance(early, _Handler):
                self._handler.adopt(early)
            entered.callback(self._handler.later.cancel)
            if self._handler.ends_process:
                watch = _Watch()
                watch.start()
                entered.callback(watch.end)
            self._entered = entered.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._entered.close()


@contextmanager
def signals_raise() -> Iterator[None]:
    """Within the block SIGTERM, SIGHUP and Ctrl-C raise Stopped: for work without a StopRequest.

    Without it SIGTERM would end the process silently and without leaving its blocks. Does nothing outside the main
    thread, since only that can handle signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = _Handler(raises=True)
    with _handled_by(handler):
        try:
            yield
        except Exception as error:
            _raise_what_is_behind(error)
            raise
        finally:
            handler.raises = False  # the work is done: later signals only count
            handler.later.cancel()
        handler.check()  # code in the block that catches everything may have caught Stopped


@contextmanager
def noticing_signals() -> Iterator[Callable[[], BaseException | None]]:
    """Yields a function that returns the exception that a signal raised within the block, or None.

    For blocks that run foreign code, which may catch that exception or replace it by another.
    """
    raised: list[BaseException] = []
    if threading.current_thread() is not threading.main_thread():  # only the main thread handles signals
        yield lambda: None
        return
    before = {number: handler for number in _SIGNALS if callable(handler := signal.getsignal(number))}

    def note(number: int, frame: FrameType | None) -> None:
        try:
            before[signal.Signals(number)](number, frame)
        except BaseException as error:
            raised.append(error)
            raise

    for number in before:
        signal.signal(number, note)
    try:
        yield lambda: raised[-1] if raised else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _handled_by(handler: "_Handler") -> Iterator[Mapping[int, Any]]:
    """Within the block the handler is called for the signals that stop a process; yields the previous handlers.

    A SIGHUP that is ignored stays ignored: under nohup the work outlives its terminal.
    """
    before: dict[int, Any] = {}
    try:
        for number in _SIGNALS:
            earlier = signal.getsignal(number)
            if number != signal.SIGHUP or earlier is not signal.SIG_IGN:
                before[number] = earlier
                signal.signal(number, handler)
        yield before
    finally:
        for taken, earlier in before.items():
            signal.signal(taken, earlier)


def _raise_what_is_behind(error: Exception) -> None:
    """Raises the Stopped that caused the error: Python 3.11 wraps exceptions that are raised while a class is created.

    Does nothing for an NcsnxError, which says what went wrong during the shutdown.
    """
    behind: BaseException | None = error
    while behind is not None and not isinstance(error, NcsnxError):
        if isinstance(behind, Stopped):
            raise behind from None
        behind = behind.__cause__ or behind.__context__


class _Handler:
    """Notes the first signal and, with `raises`, raises Stopped for it.

    While that Stopped propagates, no second one is raised: it would keep the blocks on the way from removing
    half-written files. Stopped may get caught, by an import that tries several alternatives.
    """

    def __init__(self, *, raises: bool = False, ends_process: bool = True) -> None:
        self.raises, self.ends_process = raises, ends_process
        self.signal_number: int | None = None
        self.interrupts = 0
        self.later = _Later()
        self._raised: Callable[[], Stopped | None] = lambda: None
        """Returns the Stopped that is propagating or still referenced, else None."""

    def adopt(self, other: "_Handler") -> None:
        """Takes over the signals that another handler counted."""
        self.signal_number = other.signal_number
        self.interrupts = other.interrupts

    def check(self) -> None:
        """Raises Stopped if a signal has arrived."""
        if self.signal_number is not None:
            error = Stopped(f"stopped by {signal_name(self.signal_number)}", self.signal_number)
            self._raised = weakref.ref(error)
            try:
                raise error
            finally:
                del error  # otherwise its traceback keeps it alive through this frame

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number is None:
            self.signal_number = number
        self.interrupts += number == signal.SIGINT
        is_second = number == signal.SIGINT and self.interrupts > 1
        if not is_second and (self._raised() is not None or not self.raises):
            return
        if _is_loading_native_code(frame):
            if is_second and self.ends_process:
                _end_now()
            self.later.come_again()
        elif is_second:
            raise KeyboardInterrupt  # the terminal is still restored as it propagates
        else:
            self.check()


class _Watch:
    """A thread that counts Ctrl-C while the main thread is busy, and ends the process if the second has no effect.

    Python runs signal handlers between two bytecode instructions, and once for all signals that arrived meanwhile:
    within one network evaluation, which may take a minute, a second Ctrl-C would be neither noticed nor counted. The
    number of every signal is written into a pipe as it arrives, however busy the main thread is.
    """

    def __init__(self) -> None:
        self._over = threading.Event()

    def start(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._count, name="Ctrl-C", daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        signal.set_wakeup_fd(self._before)
        os.write(self._write, _NO_MORE)
        self._thread.join()
        os.close(self._read)
        os.close(self._write)

    def _count(self) -> None:
        interrupts = 0
        while (byte := os.read(self._read, 1)) != _NO_MORE:
            interrupts += byte[0] == signal.SIGINT
            if interrupts > 1 and not self._over.wait(_GRACE_S):
                _end_now()


def _end_now() -> None:
    shown = "error: interrupted\n"
    if os.isatty(2):
        shown = f"\x1b[?25h\n{shown}"  # a live view hides the cursor
    with contextlib.suppress(OSError):  # the terminal or the pipe's reader is closed
        os.write(2, shown.encode())
    os._exit(128 + signal.SIGINT)


class _Later:
    """Sends SIGTERM again after a moment, when code that must not be interrupted may be done.

    The handler then raises for the signal that arrived first.
    """

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None
        self._is_pending = False

    def come_again(self) -> None:
        """Schedules the signal. Called by a handler, so possibly within another call of itself."""
        if self._is_pending:
            return
        self._is_pending = True
        self._timer = threading.Timer(_AGAIN_S, self._send)
        self._timer.daemon = True
        self._timer.start()

    def cancel(self) -> None:
        """Cancels the scheduled signal, because another handler takes over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
            self._timer = None

    def _send(self) -> None:
        self._is_pending = False
        os.kill(os.getpid(), signal.SIGTERM)


def signal_name(number: int) -> str:
    """Common name of a signal: 'Ctrl-C' or 'SIGTERM'."""
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


def _is_loading_native_code(frame: FrameType | None) -> bool:
    """Whether an extension module, torch or NumPy is being imported.

    An exception raised then passes through C and C++ code that doesn't expect it: the process aborts, or the module
    counts as loaded but is unusable.
    """
    while frame is not None:
        code = frame.f_code
        if code.co_filename == _IMPORTER and isinstance(frame.f_locals.get("self"), ExtensionFileLoader):
            return True
        if code.co_name == "<module>" and frame.f_globals.get("__name__") in _NATIVE:
            return True
        frame = frame.f_back
    return False
