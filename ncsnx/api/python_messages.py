"""Messages of a call from Python: shown in a terminal or a notebook, or on request, and otherwise given to logging."""

import logging
import sys

from ncsnx.console.messages import Level, Messages, Verbosity

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
