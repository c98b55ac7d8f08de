"""The command line: one file a command, thin over the library. What a command needs is imported when it runs."""

import os
import sys

from ncsnx.cli.app import app


def main() -> None:
    """Entry point of `ncsnx`."""
    if sys.platform == "win32":
        sys.exit("error: ncsnx runs on Linux and macOS; on Windows, use it inside WSL 2")
    _wait_politely()
    app()


def _wait_politely() -> None:
    """Lets idle OpenMP threads sleep soon instead of spinning, unless the user has decided on that.

    Where another process wants a core, threads that spin are never given precedence when they are needed, and a step of
    a small network takes up to 15 times as long (measured with two processes on two cores).
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "5000")


__all__ = ["app", "main"]
