"""The surroundings of a long call from Python: its messages, and signals that stop it after its work is saved."""

import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from ncsnx.api.python_messages import PythonMessages
from ncsnx.errors import NcsnxError, Stopped
from ncsnx.stopping import StopRequest


@contextmanager
def python_call(progress: bool | None) -> Iterator[tuple[PythonMessages, StopRequest]]:
    """Gives the call its messages and its stop request.

    In the main thread the first Ctrl-C or SIGTERM asks the work to stop. Once it has, the handlers from before the call
    are back and get the signal: usually Ctrl-C raises KeyboardInterrupt, and SIGTERM ends the process. A second Ctrl-C
    raises KeyboardInterrupt at once.

    progress: as in `PythonMessages`.
    """
    messages, stop = PythonMessages(progress), StopRequest(ends_process=False)
    is_main = threading.current_thread() is threading.main_thread()  # only that can handle signals
    try:
        with stop if is_main else nullcontext():
            yield messages, stop
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
