"""Paths as people type them: on the command line, in an environment variable, in a field of an experiment."""

import errno
import os
import unicodedata
from pathlib import Path

from ncsnx.config.checks import quoted
from ncsnx.errors import UsageError

_LINE_BREAKING = ("Cc", "Zl", "Zp")
"""Unicode categories of control characters and of line and paragraph separators."""
_RENAME = "rename it, or name it by a symbolic link"
_REASONS = {
    errno.ENAMETOOLONG: "is too long for a name or a path",
    errno.ELOOP: "is a loop of symbolic links",
    errno.EACCES: "cannot be reached: permission denied for a folder on the way",
}


def typed_path(text: str | Path, *, of: str = "") -> Path:
    """The typed path with `~` and `~user` expanded; it need not exist.

    of: name of the variable or field that holds the path, for the error. Raises UsageError for text that can't be a
    path and for paths that can't be reached. Control characters and bytes that aren't UTF-8 are refused too, although
    Linux allows them: messages, logs and records are lines of text, and LMDB and safetensors reject such names.
    """
    text = str(text)
    _check_characters(text, of)
    path = _expanded(text, of)
    try:
        path.stat()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _refused(text, _reason(path, error), of) from error
    return path


def typed_folder(text: str | Path, *, of: str = "") -> Path:
    """`typed_path` for a folder, which need not exist yet. Raises UsageError if the path is no folder."""
    path = typed_path(text, of=of)
    if path.exists() and not path.is_dir():
        raise _refused(str(text), "is a file; give a folder", of)
    return path


def typed_name_or_path(text: str) -> str:
    """A name or a path, with `~` expanded. Text with a slash, or with `~` in front, is checked as a path.

    Raises UsageError as `typed_path` does.
    """
    _check_characters(text)
    if text.startswith("~"):
        return str(typed_path(text))
    try:
        Path(text).stat()
    except FileNotFoundError:
        pass
    except OSError as error:
        # a name need not mean the file of that name in the current folder
        if "/" in text or error.errno == errno.ENAMETOOLONG:
            raise _refused(text, _reason(Path(text), error)) from error
    return text


def folder_of(given: str | Path | None, variable: str, default: str | Path) -> Path:
    """The folder given by an option, else by the environment variable, else `default`. Raises UsageError."""
    named = os.environ.get(variable)
    if given is None and named:
        return typed_folder(named, of=variable)
    return typed_folder(default if given is None else given)


def exists(path: Path) -> bool:
    """Whether the path exists; False also for names that the system rejects and folders that it may not read."""
    try:
        return path.exists()
    except OSError:
        return False


def _refused(text: str, reason: str, of: str = "") -> UsageError:
    return UsageError(f"{of}: {quoted(text)} {reason}" if of else f"{quoted(text)} {reason}")


def _check_characters(text: str, of: str = "") -> None:
    """Raises UsageError for empty text, invalid UTF-8 and control characters."""
    if not text:
        raise _refused(text, "is empty: expected a name or a path", of)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _refused(text, f"is not UTF-8; {_RENAME}", of) from None
    if any(unicodedata.category(character) in _LINE_BREAKING for character in text):
        raise _refused(text, f"contains control characters; {_RENAME}", of)


def _expanded(text: str, of: str) -> Path:
    expanded = os.path.expanduser(text)  # noqa: PTH111 (pathlib takes ./~x for a home too)
    if expanded.startswith("~"):
        user = quoted(text[1:].partition("/")[0])
        raise _refused(
            text, f"begins with the home of {user}, but there is no such user here; expected ./~… or ~/…", of
        )
    path = Path(expanded)
    return path.absolute() if str(path).startswith("~") else path  # Path drops the ./ before a ~


def _reason(path: Path, error: OSError) -> str:
    if error.errno == errno.ENOTDIR:
        file = next((parent for parent in path.parents if parent.is_file()), path.parent)
        return f"cannot exist: {quoted(str(file))} is a file, not a folder"
    return _REASONS.get(error.errno or 0, f"cannot be reached: {error.strerror or error}")
