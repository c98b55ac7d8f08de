"""Live bars in the output of a notebook's cell.

Imports IPython, so it is itself imported only in a notebook.
"""

import threading
from typing import Any

import IPython.display

from ncsnx.console.messages import Messages
from ncsnx.console.view import Line, View
from ncsnx.notebooks.display import escaped

_IPYTHON: Any = IPython.display  # in some versions its functions have types, in others not
_INTERVAL_S = 0.5
_WIDTH, _ROOM = 100, 30
"""Characters and lines for a view's text."""


class NotebookArea:
    """Draws views from its own thread until it is stopped, as `LiveArea` does on a terminal."""

    def __init__(self, messages: Messages, view: View, *, transient: bool) -> None:
        self._messages = messages
        self._views = {0: view}
        self._transient = transient
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._redraw, name="notebook", daemon=True)

    def start(self) -> None:
        """Opens the display in the output of the running cell."""
        self._messages.live = self
        self._handle = _IPYTHON.display(_IPYTHON.HTML(self._html()), display_id=True)
        self._thread.start()

    def stop(self) -> None:
        """Draws a last time, or clears a transient display."""
        self._over.set()
        self._messages.live = None
        if self._thread.ident is not None:
            self._thread.join()
            self._handle.update(_IPYTHON.HTML("" if self._transient else self._html()))

    def add_task(self, description: str, *, total: int, view: View) -> int:
        """Adds a view below the others; returns its number."""
        number = max(self._views) + 1
        self._views = {**self._views, number: view}
        return number

    def remove_task(self, number: int) -> None:
        """Removes the view of that number."""
        self._views = {key: view for key, view in self._views.items() if key != number}

    def _redraw(self) -> None:
        before = ""
        while not self._over.wait(_INTERVAL_S):
            if (now := self._html()) != before:
                self._handle.update(_IPYTHON.HTML(now))
                before = now

    def _html(self) -> str:
        return "".join(map(_drawn, self._views.values()))


def _drawn(view: View) -> str:
    lines = "\n".join(_plain(line) for line in view.above(_WIDTH, _ROOM))
    text = f'<pre style="margin: 0; background: none; color: inherit">{lines}</pre>' if lines else ""
    done = f'<progress value="{view.done}" max="{max(view.total, 1)}"></progress>'
    count = escaped("  ".join(filter(None, view.parts())))
    return f"<div>{text}<b>{escaped(view.name)}</b> {done} {count}</div>"


def _plain(line: Line) -> str:
    return "".join(escaped(part if isinstance(part, str) else part[0]) for part in line)
