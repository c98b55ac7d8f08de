"""Paths as people type them: on the command line, in an environment variable, in a field of an experiment."""

import os
import re
from pathlib import Path

from ncsnx.errors import UsageError, quoted

_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters, breaks of lines and paragraphs, and bytes that aren't UTF-8."""


def checked_path(text: str | Path, *, of: str = "") -> Path:
    """The typed path with `~` and `~user` expanded; it need not exist.

    of: name of the variable or field that holds the path, for the error. Raises UsageError for text that can't be a
    path and for paths that can't be reached. Control characters and bytes that aren't UTF-8 are refused too, although
    Linux allows them: messages, logs and records are lines of text, and LMDB and safetensors reject such names.
    """
    text = str(text)
    _require_printable(text, of)
    try:
        path = Path(text).expanduser() if text.startswith("~") else Path(text)
    except RuntimeError:
        raise _refused(text, "begins with the home of a user who is not here; expected ./~… or ~/…", of) from None
    if str(path).startswith("~"):  # pathlib drops the ./ of ./~x, which would mean a home when it is read again
        path = path.absolute()
    try:
        path.stat()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _refused(text, f"cannot be reached: {error.strerror or error}", of) from error
    return path


def checked_folder(text: str | Path, *, of: str = "") -> Path:
    """`checked_path` for a folder, which need not exist yet. Raises UsageError if the path is no folder."""
    path = checked_path(text, of=of)
    if path.exists() and not path.is_dir():
        raise _refused(str(text), "is a file; give a folder", of)
    return path


def checked_name_or_path(text: str) -> str:
    """A name or a path, with `~` expanded. Text with a slash, or with `~` in front, is checked as a path.

    Raises UsageError as `checked_path` does.
    """
    if "/" in text or text.startswith("~"):
        path = checked_path(text)
        return str(path) if text.startswith("~") else text
    _require_printable(text)
    if len(os.fsencode(text)) > os.pathconf("/", "PC_NAME_MAX"):
        raise _refused(text, "is too long for a name")
    return text


def folder_of(given: str | Path | None, variable: str, default: str | Path) -> Path:
    """The folder given by an option, else by the environment variable, else `default`. Raises UsageError."""
    named = os.environ.get(variable)
    if given is None and named:
        return checked_folder(named, of=variable)
    return checked_folder(default if given is None else given)


def exists(path: Path) -> bool:
    """Whether the path exists; False also for names that the system rejects and folders that it may not read."""
    try:
        return path.exists()
    except OSError:
        return False


def _refused(text: str, reason: str, of: str = "") -> UsageError:
    return UsageError(f"{of}: {quoted(text)} {reason}" if of else f"{quoted(text)} {reason}")


def _require_printable(text: str, of: str = "") -> None:
    """Raises UsageError for empty text, control characters and invalid UTF-8."""
    if not text:
        raise _refused(text, "is empty: expected a name or a path", of)
    if _CONTROLS.search(text):
        raise _refused(text, "contains control characters; rename it, or name it by a symbolic link", of)
