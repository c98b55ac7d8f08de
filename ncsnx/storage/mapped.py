"""Memory-mapped files. If a file was truncated after mapping, reading the missing part kills the process (SIGBUS).

The file's size is therefore checked before each read. Removing the file is harmless: the mapping keeps its content.
"""

from pathlib import Path

from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted


def require_whole(path: Path, size: int) -> None:
    """Raises NcsnxError if the file is now shorter than the `size` bytes that were mapped."""
    try:
        found = path.stat().st_size
    except FileNotFoundError:
        return
    except OSError as error:
        raise NcsnxError(f"{path}: can no longer be read: {error.strerror}") from error
    if found < size:
        raise NcsnxError(
            f"{path}: has {counted(found, 'byte')} instead of {size:,}: it was truncated or replaced while in use"
        )
