"""All console output: messages to standard error and log.txt, data to standard output."""

import contextlib
import errno
import io
import json
import os
import sys
from collections import deque
from collections.abc import Mapping
from copy import copy
from datetime import UTC, datetime
from enum import IntEnum
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, TextIO, cast

from ncsnx.errors import NcsnxError, printable
from ncsnx.quantities import counted
from ncsnx.ranks.rank_group import ALONE, RANK_LOGS, RankGroup
from ncsnx.storage.json_lines import finite_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

Level = Literal["detail", "info", "warning", "error"]


class Verbosity(IntEnum):
    """How many messages are shown."""

    SILENT = -1
    """Nothing is shown, and no data is written: ranks other than 0."""
    QUIET = 0
    NORMAL = 1
    VERBOSE = 2


_LEVELS: Mapping[Level, tuple[Verbosity, str, str, str]] = {
    "detail": (Verbosity.VERBOSE, "", "", "dim"),
    "info": (Verbosity.NORMAL, "", "", ""),
    "warning": (Verbosity.NORMAL, "warning: ", "bold yellow", ""),
    "error": (Verbosity.QUIET, "error: ", "bold red", ""),
}
"""Verbosity from which messages are shown, their label, its style, and the style of their text."""

_EARLY_MESSAGES_KEPT = 1_000  # messages from before the run folder, and so log.txt, exists


# EPIPE: `| head -1` has finished. EIO: the terminal of a background job was closed.
_READER_HAS_LEFT = (errno.EPIPE, errno.EIO)


def takes_no_more(error: OSError) -> str:
    """The message for standard output on a full disk."""
    return f"cannot write to standard output ({error.strerror}); free space and run again"


class Outlet(io.TextIOBase):
    """Standard output or standard error, as it was when this object was created.

    Once its reader is gone, output is dropped without an error, so that a run outlives its terminal. Characters that
    the stream's encoding lacks become backslash escapes.
    """

    def __init__(self, stream: TextIO | None) -> None:
        """stream: None in a process that was started with the descriptor closed."""
        self._stream = stream
        self.is_terminal = stream is not None and stream.isatty()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # typeshed declares a plain attribute
        """The stream's encoding in lower case."""
        return (getattr(self._stream, "encoding", None) or "utf-8").lower()

    @property
    def is_utf8(self) -> bool:
        """Whether the encoding is UTF-8, which has every character."""
        return self.encoding.replace("-", "").replace("_", "") == "utf8"

    def isatty(self) -> bool:
        """Whether the stream is a terminal according to the operating system."""
        return self.is_terminal

    def fileno(self) -> int:
        """The stream's file descriptor. Raises io.UnsupportedOperation if it has none."""
        if self._stream is None:
            raise io.UnsupportedOperation("fileno")
        return self._stream.fileno()

    def write(self, text: str) -> int:
        """Writes and flushes `text`; returns its length. Raises OSError, except if the reader is gone."""
        if self._stream is not None:
            try:
                self._stream.write(self._encodable(text))
                self._stream.flush()
            except OSError as error:
                self._abandon()
                if error.errno not in _READER_HAS_LEFT:
                    raise
        return len(text)

    def _encodable(self, text: str) -> str:
        try:
            text.encode(self.encoding)
        except UnicodeEncodeError:
            return text.encode(self.encoding, "backslashreplace").decode(self.encoding)
        return text

    def _abandon(self) -> None:
        # At exit the interpreter flushes the buffer, which would report the same error again.
        with contextlib.suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            try:
                os.dup2(null, self.fileno())
            finally:
                os.close(null)
        self._stream = None


class Messages:
    """Writes messages to standard error and, at every verbosity, to log.txt; writes data to standard output.

    Text isn't interpreted: markup stays as it is and control characters are escaped. Lines after the first are
    indented, so that a name with a line break can't look like a separate message.
    """

    def __init__(self, verbosity: Verbosity = Verbosity.NORMAL, log_file: Path | None = None) -> None:
        self.verbosity = verbosity
        self.stdout = Outlet(sys.stdout)
        self.stderr = Outlet(sys.stderr)
        self.live: Progress | None = None  # bars at the bottom of the terminal
        self.in_notebook = False
        self._console: Console | None = None
        self._log_file: Path | None = None
        self._early: deque[str] = deque(maxlen=_EARLY_MESSAGES_KEPT)
        self.ranks = ALONE
        if log_file is not None:
            self.attach(log_file)

    def join(self, ranks: RankGroup) -> None:
        """Speaks for this rank of the command: one other than 0 is silent and has a log of its own."""
        self.ranks = ranks
        if not ranks.is_first:
            self.verbosity = Verbosity.SILENT

    def speak(self) -> None:
        """Lets a silent rank say why it failed."""
        self.verbosity = max(self.verbosity, Verbosity.QUIET)

    @property
    def can_redraw(self) -> bool:
        """Whether bars can be drawn: on a terminal that can redraw lines, or in a notebook with ipywidgets."""
        if self.in_notebook:
            return find_spec("ipywidgets") is not None
        is_dumb = os.environ.get("TERM", "").lower() in ("", "dumb", "unknown")
        return self.stderr.is_terminal and self.stderr.is_utf8 and not is_dumb

    def attach(self, log_file: Path) -> None:
        """Appends the messages so far, and all later ones, to `log_file`.

        Ranks other than 0 have files of their own beside it: ranks/rank-1.txt.
        """
        if not self.ranks.is_first:
            log_file = log_file.parent / RANK_LOGS / f"rank-{self.ranks.rank}.txt"
            with contextlib.suppress(OSError):  # `_append` says what is wrong
                log_file.parent.mkdir(exist_ok=True)
        self._log_file = log_file
        self._append("".join(self._early))
        self._early.clear()

    def separate(self) -> "Messages":
        """The same console, for work of this rank alone that has a log of its own."""
        messages = copy(self)
        messages._log_file, messages._early = None, deque(maxlen=_EARLY_MESSAGES_KEPT)
        messages.ranks = ALONE
        return messages

    def detail(self, text: str) -> None:
        """A message that is shown in verbose output only."""
        self._say("detail", text)

    def info(self, text: str) -> None:
        """A message that is shown unless output is quiet."""
        self._say("info", text)

    def warning(self, text: str) -> None:
        """A problem that doesn't stop the work; shown unless output is quiet."""
        self._say("warning", text)

    def error(self, text: str) -> None:
        """The reason why the work stopped; always shown."""
        self._say("error", text)

    def record(self, level: Level, text: str) -> None:
        """Writes a message to log.txt only."""
        time = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        line = f"{time} {level:<7} {_inert(text)}\n"
        if self._log_file is None:
            self._early.append(line)
        else:
            self._append(line)

    def data(self, text: str) -> None:
        """Writes `text` and a line break to standard output, with control characters except \\n and \\t escaped.

        They are escaped for pipes and files too, since the text usually reaches a terminal in the end. Raises
        NcsnxError if standard output can't be written (a full disk).
        """
        shown = printable(text, keep="\n\t")
        if self.stdout.is_terminal and self.live is not None:
            self._print_above("", "", shown, "")
        else:
            self._write_data(shown + "\n")

    def json(self, value: object) -> None:
        """Writes `value` to standard output as indented JSON in ASCII, its keys in the given order.

        NaN and infinity become null. Raises NcsnxError if standard output can't be written (a full disk), TypeError
        for values that JSON can't express.
        """
        self._write_data(json.dumps(finite_json(value), indent=2, allow_nan=False) + "\n")

    def console(self) -> "Console":
        """The rich console on standard error, shared so that messages appear above the live area."""
        if self._console is None:
            self._console = rich_console(self.stderr, in_notebook=self.in_notebook)
        return self._console

    def _say(self, level: Level, text: str) -> None:
        self.record(level, text)
        if self.verbosity >= _LEVELS[level][0]:
            self._show(level, text)

    def _show(self, level: Level, text: str) -> None:
        _, label, label_style, style = _LEVELS[level]
        if self.stderr.is_terminal:
            self._print_above(label, label_style, _inert(text), style)
            return
        # standard error may itself be a file on the full disk
        with contextlib.suppress(OSError):
            self.stderr.write(f"{label}{_inert(text)}\n")

    def _print_above(self, label: str, label_style: str, text: str, style: str) -> None:
        from rich.text import Text

        self.console().print(Text.assemble((label, label_style), (text, style)), soft_wrap=True)

    def _append(self, lines: str) -> None:
        assert self._log_file is not None
        content = lines.encode("utf-8", "backslashreplace")
        try:
            # Opened for each message: messages are rare, and a killed run loses none to a buffer.
            with self._log_file.open("ab") as file:
                file.write(content)
        except OSError as error:
            path, self._log_file = self._log_file, None
            reason = f"{path} ({counted(len(content), 'byte')}): {error.strerror}"
            if self.verbosity > Verbosity.SILENT:
                self._show("warning", f"cannot write {reason}; later messages are not logged")

    def _write_data(self, text: str) -> None:
        if not self.ranks.is_first:
            return
        try:
            self.stdout.write(text)
        except OSError as error:
            raise NcsnxError(takes_no_more(error)) from error


def rich_console(outlet: Outlet, *, in_notebook: bool = False) -> "Console":
    """A rich console on `outlet`. Only the operating system decides whether it is a terminal.

    FORCE_COLOR and similar variables have no effect; NO_COLOR gives plain text.
    """
    from rich.console import Console

    return Console(
        file=cast("IO[str]", outlet),
        force_terminal=outlet.is_terminal,
        force_interactive=outlet.is_terminal,
        force_jupyter=in_notebook,
        color_system=None if os.environ.get("NO_COLOR") or not outlet.is_terminal else "auto",
        markup=False,
        emoji=False,
        highlight=False,
    )


def _inert(text: str) -> str:
    return printable(text, keep="\n").replace("\n", "\n  ")
