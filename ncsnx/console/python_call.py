"""The surroundings of a long call from Python: its messages, and signals that stop it after its work is saved."""

import logging
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from ncsnx.console.messages import Level, Messages, Verbosity
from ncsnx.console.working import work_of
from ncsnx.errors import NcsnxError, Stopped
from ncsnx.stopping import StopRequest
from ncsnx.work import Work


@contextmanager
def python_call(progress: bool | None) -> Iterator[Work]:
    """Gives the call its Work.

    In the main thread the first Ctrl-C or SIGTERM asks the work to stop. Once it has, the handlers from before the call
    are back and get the signal: usually Ctrl-C raises KeyboardInterrupt, and SIGTERM ends the process. A second Ctrl-C
    raises KeyboardInterrupt at once.

    progress: as in `PythonMessages`.
    """
    messages, stop = PythonMessages(progress), StopRequest(ends_process=False)
    is_main = threading.current_thread() is threading.main_thread()  # only that can handle signals
    try:
        with stop if is_main else nullcontext():
            yield work_of(messages, stop)
    except Stopped as stopped:
        messages.record("info", f"{stopped}; {stopped.then or 'the same call resumes'}")
        _pass_on(stopped)
    except NcsnxError as error:
        messages.record("error", str(error))
        raise
    except Exception as error:
        messages.record("error", f"{type(error).__name__}: {error}\n{traceback.format_exc().rstrip()}")
        raise


def _pass_on(stopped: Stopped) -> None:
    """Gives the signal to the handler that the program has for it."""
    signal.raise_signal(stopped.signal_number)
    if stopped.signal_number == signal.SIGINT:
        raise KeyboardInterrupt(str(stopped)) from None
    raise stopped


LOGGER = "ncsnx"
"""Name of the logger that gets what isn't shown."""
_LEVELS = {"detail": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

logging.getLogger(LOGGER).addHandler(logging.NullHandler())  # nothing is printed unless the program asks for it


class PythonMessages(Messages):
    """Messages of a function that Python code calls.

    A notebook shows progress and warnings, a terminal what the command shows, and other places nothing.
    """

    def __init__(self, progress: bool | None = None) -> None:
        """progress: True shows messages everywhere, False nowhere; None: in notebooks and terminals."""
        in_notebook = is_notebook()
        shown = in_notebook or (sys.stderr is not None and sys.stderr.isatty()) if progress is None else progress
        super().__init__(Verbosity.NORMAL if shown else Verbosity.QUIET)
        self.in_notebook = shown and in_notebook

    def _say(self, level: Level, text: str) -> None:
        if self.verbosity > Verbosity.QUIET:
            super()._say(level, text)
        else:
            self.record(level, text)
            logging.getLogger(LOGGER).log(_LEVELS[level], text)

    def _show(self, level: Level, text: str) -> None:
        if level != "info" or not (self.in_notebook and self.can_redraw):  # otherwise the bars have it
            super()._show(level, text)


def is_notebook() -> bool:
    """Whether the code runs in the kernel of a notebook, which shows HTML."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return hasattr(shell, "kernel")
