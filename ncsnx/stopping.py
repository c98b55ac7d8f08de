"""Ending in good order: a signal sets a flag, which is read between network evaluations."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ExtensionFileLoader
from types import FrameType, TracebackType
from typing import Self

from ncsnx.errors import Stopped

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
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
    """While it is entered, SIGTERM and the first Ctrl-C ask the work to end; a second Ctrl-C ends it at once.

    A SIGTERM that came before, within `sigterm_raises`, counts as one that comes now.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._interrupts = 0
        self._raises = False
        self._before: dict[int, object] = {}
        self._watch = _Watch()
        self._later = _Later()

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.signal_number is not None

    def check(self) -> None:
        """Raises Stopped if a signal has come."""
        if self.signal_number is not None:
            raise Stopped(f"stopped by {signal.Signals(self.signal_number).name}", self.signal_number)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """In the block a signal raises Stopped wherever the work is, not only where it is asked for.

        For what takes long without asking, and loses nothing by being left: every write of ours is whole or not there.
        """
        self._raises = True
        try:
            self.check()
            yield
        finally:
            self._raises = False
        self.check()  # who catches everything may have caught it

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        early = self._before[signal.SIGTERM]
        if isinstance(early, _Raise) and early.has_come:
            self.signal_number = signal.SIGTERM
        self._watch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._watch.end()
        self._later.cancel()
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number is None:
            self.signal_number = number
        self._interrupts += number == signal.SIGINT
        if self._interrupts > 1:
            raise KeyboardInterrupt  # still restores the terminal on its way out
        if self._raises:
            if _is_loading_native_code(frame):
                self._later.come_again()
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
    os.write(2, shown.encode())
    os._exit(128 + signal.SIGINT)


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """In the block SIGTERM raises Stopped, as Ctrl-C raises KeyboardInterrupt: for what precedes, or needs, no request.

    Without it the process would end without a word, and without leaving its blocks. Does nothing outside of the main
    thread, which alone may handle signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = _Raise()
    before = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        handler.later.cancel()
        signal.signal(signal.SIGTERM, before)


@contextmanager
def noticing_signals() -> Iterator[Callable[[], bool]]:
    """Gives a function that tells whether a signal to stop has come in the block, besides what it does otherwise.

    For blocks that run other people's code: where none has come, that code has raised KeyboardInterrupt or Stopped.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # signals are handled, and raise, there alone
        yield lambda: False
        return
    before = {number: handler for number in _SIGNALS if callable(handler := signal.getsignal(number))}

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        before[signal.Signals(number)](number, frame)

    for number in before:
        signal.signal(number, note)
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Raise:
    """A handler that remembers: an import that tries several ways may take what it raises for a failure of one."""

    def __init__(self) -> None:
        self.has_come = False
        self.later = _Later()
        self._has_raised = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.has_come = True
        if self._has_raised:
            return
        if _is_loading_native_code(frame):
            self.later.come_again()
            return
        self._has_raised = True
        raise Stopped(f"stopped by {signal.Signals(number).name}", number)


class _Later:
    """Lets SIGTERM come again, when what it must not interrupt may be over."""

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None

    def come_again(self) -> None:
        """In a moment."""
        self._timer = threading.Timer(_AGAIN_S, os.kill, (os.getpid(), signal.SIGTERM))
        self._timer.daemon = True
        self._timer.start()

    def cancel(self) -> None:
        """Not any more: somebody else handles signals."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
            self._timer = None


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
