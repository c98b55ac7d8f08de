"""Paths as people type them: on a command line, in a variable of the environment, in a field of an experiment."""

import errno
import os
import unicodedata
from pathlib import Path

from ncsnx.config.checks import quoted
from ncsnx.errors import UsageError

_LINE_BREAKING = ("Cc", "Zl", "Zp")
"""Unicode's categories of control characters, and of what ends a line or a paragraph."""
_RENAME = "rename it, or name it by a symbolic link"
_REASONS = {
    errno.ENAMETOOLONG: "is too long for a name or a path",
    errno.ELOOP: "is a loop of symbolic links",
    errno.EACCES: "cannot be reached: permission denied for a folder on the way",
}


def typed_path(text: str | Path, *, of: str = "") -> Path:
    """The path that was typed, with `~` and `~user` expanded; nothing need be there.

    of: what was typed it for, such as a variable or a field, for the error. Raises UsageError for what can't be a path
    or can't be reached. Control characters and bytes that aren't UTF-8 are legal in names on Linux, but are refused
    too: messages, logs and records consist of lines of text, and LMDB and safetensors take no such names.
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
    """`typed_path` for a folder, which need not exist yet. Raises UsageError where something else is."""
    path = typed_path(text, of=of)
    if path.exists() and not path.is_dir():
        raise _refused(str(text), "is a file; give a folder", of)
    return path


def typed_name_or_path(text: str) -> str:
    """What may be a name or a path, with `~` expanded. Text with a slash, or with `~` in front, is checked as a path.

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
        # what lies here under a name needn't be what the name means
        if "/" in text or error.errno == errno.ENAMETOOLONG:
            raise _refused(text, _reason(Path(text), error)) from error
    return text


def folder_of(given: str | Path | None, variable: str, default: str | Path) -> Path:
    """The folder that an option says, else the variable of the environment, else `default`. Raises UsageError."""
    named = os.environ.get(variable)
    if given is None and named:
        return typed_folder(named, of=variable)
    return typed_folder(default if given is None else given)


def exists(path: Path) -> bool:
    """Whether something is there; False also for names that the system doesn't take, and where it may not look."""
    try:
        return path.exists()
    except OSError:
        return False


def _refused(text: str, reason: str, of: str = "") -> UsageError:
    return UsageError(f"{of}: {quoted(text)} {reason}" if of else f"{quoted(text)} {reason}")


def _check_characters(text: str, of: str = "") -> None:
    """Raises UsageError for characters that no path may have here."""
    if not text:
        raise _refused(text, "is empty: expected a name or a path", of)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _refused(text, f"is not UTF-8; {_RENAME}", of) from None
    if any(unicodedata.category(character) in _LINE_BREAKING for character in text):
        raise _refused(text, f"has control characters in it; {_RENAME}", of)


def _expanded(text: str, of: str) -> Path:
    expanded = os.path.expanduser(text)  # noqa: PTH111 (pathlib takes ./~x for a home too)
    if expanded.startswith("~"):
        user = quoted(text[1:].partition("/")[0])
        raise _refused(
            text, f"begins with the home of {user}, and there is no such user here; expected ./~… or ~/…", of
        )
    path = Path(expanded)
    return path.absolute() if str(path).startswith("~") else path  # which has lost the ./ before a ~


def _reason(path: Path, error: OSError) -> str:
    if error.errno == errno.ENOTDIR:
        file = next((parent for parent in path.parents if parent.is_file()), path.parent)
        return f"cannot be there: {quoted(str(file))} is a file, not a folder"
    return _REASONS.get(error.errno or 0, f"cannot be reached: {error.strerror or error}")
