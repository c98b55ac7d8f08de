"""The command line: one file a command, thin over the library. What a command needs is imported when it runs."""

import sys

from ncsnx.cli.app import app


def main() -> None:
    """Entry point of `ncsnx`."""
    if sys.platform == "win32":
        sys.exit("error: ncsnx runs on Linux and macOS; on Windows, use it inside WSL 2")
    app()


__all__ = ["app", "main"]
