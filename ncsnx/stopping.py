"""Ending in good order: a signal sets a flag, which is read between network evaluations."""

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
"""After a second Ctrl-C, for the work to be left in the usual way; then the process ends wherever it is."""
_AGAIN_S = 0.02
_NO_MORE = b"\0"
_IMPORTER = "<frozen importlib._bootstrap_external>"
_NATIVE = ("torch", "numpy")
"""Packages that run their own native code while they are imported."""

# What a forked process would write into the pipe that it shares with this one would count as this one's signals.
os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))


class StopRequest:
    """While it is entered, SIGTERM, SIGHUP and the first Ctrl-C ask the work to end; a second Ctrl-C ends it at once.

    A signal that came before, within `signals_raise`, counts as one that comes now. A SIGHUP that was ignored when the
    process started, as under nohup, stays ignored.
    """

    def __init__(self) -> None:
        self._handler = _Handler()
        self._entered = contextlib.ExitStack()

    @property
    def signal_number(self) -> int | None:
        """The first signal that has come."""
        return self._handler.signal_number

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.signal_number is not None

    def check(self) -> None:
        """Raises Stopped if a signal has come."""
        self._handler.check()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """In the block a signal raises Stopped wherever the work is, not only where it is asked for.

        For what takes long without asking, and loses nothing by being left: every write of ours is whole or not there.
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
        self.check()  # who catches everything may have caught it

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as entered:
            before = entered.enter_context(_handled_by(self._handler))
            early = before[signal.SIGTERM]
            if isinstance(early, _Handler):
                self._handler.adopt(early)
            entered.callback(self._handler.later.cancel)
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
    """In the block SIGTERM, SIGHUP and Ctrl-C raise Stopped: for what precedes, or needs, no request.

    Without it SIGTERM would end the process without a word, and without leaving its blocks. Does nothing outside of the
    main thread, which alone may handle signals.
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
            handler.raises = False  # what comes from here on finds all done
            handler.later.cancel()
        handler.check()  # who catches everything may have caught it


@contextmanager
def noticing_signals() -> Iterator[Callable[[], BaseException | None]]:
    """Gives a function that tells what a signal to stop has raised in the block, None if nothing.

    For blocks that run other people's code, which may catch it, or make another exception of it.
    """
    raised: list[BaseException] = []
    if threading.current_thread() is not threading.main_thread():  # signals are handled, and raise, there alone
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
    """In the block the handler is called for signals that ask to end; yields the handlers of before.

    A SIGHUP that is ignored stays ignored: nohup wants the work to outlive its terminal.
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
    """Raises the Stopped that led to the error: Python 3.11 wraps whatever is raised while a class is made.

    An NcsnxError stays what it is: it says what went wrong while the work was ended in good order.
    """
    behind: BaseException | None = error
    while behind is not None and not isinstance(error, NcsnxError):
        if isinstance(behind, Stopped):
            raise behind from None
        behind = behind.__cause__ or behind.__context__


class _Handler:
    """Notes the first signal, and raises Stopped for it where that is wanted.

    While that Stopped is on its way, others aren't raised: they would keep the blocks that are left from removing what
    they had half written. It may be caught, since an import that tries several ways takes it for a failure of one.
    """

    def __init__(self, *, raises: bool = False) -> None:
        self.raises = raises
        self.signal_number: int | None = None
        self.interrupts = 0
        self.later = _Later()
        self._raised: Callable[[], Stopped | None] = lambda: None
        """The Stopped that is on its way, or was kept."""

    def adopt(self, other: "_Handler") -> None:
        """Counts what came to another handler as its own."""
        self.signal_number = other.signal_number
        self.interrupts = other.interrupts

    def check(self) -> None:
        """Raises Stopped if a signal has come."""
        if self.signal_number is not None:
            error = Stopped(f"stopped by {_name(self.signal_number)}", self.signal_number)
            self._raised = weakref.ref(error)
            try:
                raise error
            finally:
                del error  # else its traceback would keep it, through this frame

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number is None:
            self.signal_number = number
        self.interrupts += number == signal.SIGINT
        is_second = number == signal.SIGINT and self.interrupts > 1
        if not is_second and (self._raised() is not None or not self.raises):
            return
        if _is_loading_native_code(frame):
            if is_second:
                _end_now()
            self.later.come_again()
        elif is_second:
            raise KeyboardInterrupt  # still restores the terminal on its way out
        else:
            self.check()


class _Watch:
    """A thread that counts Ctrl-C while the main one is busy, and ends the process if the second isn't heeded.

    Python's handlers run between two of its instructions, and once for all signals that came meanwhile: within one
    network evaluation, which may take a minute, a second Ctrl-C would neither be noticed nor counted. The number of
    every signal is written into a pipe when it comes, however busy the main thread is.
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
    with contextlib.suppress(OSError):  # the terminal was closed, or the pipe's reader has left
        os.write(2, shown.encode())
    os._exit(128 + signal.SIGINT)


class _Later:
    """Sends SIGTERM when what a signal must not interrupt may be over: it raises for the signal that came first."""

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None
        self._is_pending = False

    def come_again(self) -> None:
        """In a moment. Called by a handler, and so perhaps within a call of itself."""
        if self._is_pending:
            return
        self._is_pending = True
        self._timer = threading.Timer(_AGAIN_S, self._send)
        self._timer.daemon = True
        self._timer.start()

    def cancel(self) -> None:
        """Not any more: somebody else handles signals."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
            self._timer = None

    def _send(self) -> None:
        self._is_pending = False
        os.kill(os.getpid(), signal.SIGTERM)


def _name(number: int) -> str:
    """What people call a signal."""
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


def _is_loading_native_code(frame: FrameType | None) -> bool:
    """Whether an extension module, torch or NumPy is being imported.

    What is raised then passes through C and C++ that are not made for it: the process aborts, or the module counts as
    loaded and is of no use.
    """
    while frame is not None:
        code = frame.f_code
        if code.co_filename == _IMPORTER and isinstance(frame.f_locals.get("self"), ExtensionFileLoader):
            return True
        if code.co_name == "<module>" and frame.f_globals.get("__name__") in _NATIVE:
            return True
        frame = frame.f_back
    return False
