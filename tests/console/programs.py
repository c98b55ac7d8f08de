"""Runs small programs as people do: on a (pseudo-)terminal, and with their output piped."""

import os
import pty
import re
import subprocess
import sys
import termios
import threading
from pathlib import Path

import attrs

REPOSITORY = Path(__file__).resolve().parents[2]
LIMIT_S = 60
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
BAR = "━+╸? *"
"""A bar in progress, without colors."""


@attrs.frozen
class Shown:
    """Output of a program on a terminal, escape codes included, and its exit code."""

    text: str
    exit_code: int
    attributes_kept: bool  # whether the terminal's settings are unchanged


CHANGES_OUTPUT = ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "PYTHONUNBUFFERED")


def environment(extra: dict[str, str]) -> dict[str, str]:
    """This process's environment without variables that change output, and with `extra`."""
    kept = {name: value for name, value in os.environ.items() if name not in CHANGES_OUTPUT}
    fixed = {"TERM": "xterm-256color", "COLUMNS": "100", "PYTHONIOENCODING": "utf-8"}
    return kept | fixed | {"PYTHONPATH": str(REPOSITORY)} | extra


def on_terminal(program: str, **extra: str) -> Shown:
    """Runs a program with its standard streams on a pseudo-terminal; `extra` goes into its environment."""
    master, terminal = pty.openpty()
    before = termios.tcgetattr(terminal)
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=terminal, stdout=terminal, stderr=terminal, env=environment(extra)
    )
    received: list[bytes] = []
    reader = threading.Thread(target=_read_all, args=(master, received))
    reader.start()
    exit_code = process.wait(timeout=LIMIT_S)
    attributes_kept = termios.tcgetattr(terminal) == before
    os.close(terminal)
    reader.join(timeout=LIMIT_S)
    os.close(master)
    return Shown(b"".join(received).decode(), exit_code, attributes_kept)


def _read_all(descriptor: int, received: list[bytes]) -> None:
    # Once the terminal is closed, Linux reports EIO, macOS the end of the file.
    try:
        while chunk := os.read(descriptor, 65_536):
            received.append(chunk)
    except OSError:
        return


def piped(program: str, **extra: str) -> subprocess.CompletedProcess[str]:
    """Runs a program with its output piped; `extra` goes into its environment."""
    return subprocess.run(
        [sys.executable, "-c", program],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        env=environment(extra),
        timeout=LIMIT_S,
        check=False,
    )


def frames(text: str) -> list[list[str]]:
    """The lines of each drawing of the live area, from the first to the one that is erased at the end."""
    live = text[text.index(HIDE_CURSOR) + len(HIDE_CURSOR) : text.index(SHOW_CURSOR)]
    return [frame.strip("\r\n").split("\r\n") for frame in re.split(r"\r(?:\x1b\[2K|\x1b\[1A)+", live) if frame.strip()]
