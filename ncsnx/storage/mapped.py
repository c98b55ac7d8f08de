"""Files that are mapped into memory: whoever touches a part that was cut off meanwhile is ended by the system (SIGBUS).

So what is mapped is looked at before it is read. A file that was removed is no trouble: its mapping keeps it.
"""

from pathlib import Path

from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted


def require_whole(path: Path, size: int) -> None:
    """Raises NcsnxError if the file has become shorter than the `size` bytes that were mapped."""
    try:
        found = path.stat().st_size
    except FileNotFoundError:
        return
    except OSError as error:
        raise NcsnxError(f"{path}: cannot be read any more: {error.strerror}") from error
    if found < size:
        raise NcsnxError(
            f"{path}: has {counted(found, 'byte')} instead of {size:,}: it was cut off or replaced while in use"
        )
