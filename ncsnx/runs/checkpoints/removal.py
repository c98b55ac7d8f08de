"""Removes checkpoints and optimizer states atomically: after a kill, each is either complete or gone.

A checkpoint is first renamed to a temporary name, which marks it as debris; an optimizer's state is unlinked. Neither
needs disk space, follows a link or touches anything else.
"""

import errno
import os
from pathlib import Path

from ncsnx.errors import Hint, NcsnxError
from ncsnx.runs.checkpoints.leftovers import remove_leftover
from ncsnx.runs.checkpoints.manifest import OPTIMIZER, read_manifest, strangers
from ncsnx.storage import atomic, reading


def remove_checkpoint(folder: Path) -> str | None:
    """Removes a whole checkpoint. Returns a remark if foreign hidden files are left. Raises NcsnxError.

    A checkpoint whose folder holds files that ncsnx didn't write stays as it is. Hidden files don't prevent removal:
    they stay in the debris, which the remark names.
    """
    if foreign := strangers(folder, read_manifest(folder)):
        raise NcsnxError(
            f"{folder} stays, since it holds {', '.join(foreign)}, which ncsnx did not write there",
            Hint("move that away"),
        )
    gone = atomic.temporary_sibling(folder)
    before: list[reading.Entry] = []
    try:
        before = reading.entries(folder)
        if not os.access(folder, os.W_OK | os.X_OK):  # renaming it needs no permission on it, emptying it does
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        folder.rename(gone)
        atomic.sync_folder(gone.parent)
        remove_leftover(gone)
    except NcsnxError as error:
        return str(error)
    except OSError as error:
        left = f"; the rest of it is {gone.name}" if _is_begun(folder, gone, len(before)) else ""
        raise NcsnxError(
            f"cannot remove {folder}: {error.strerror or error}{left}",
            Hint("allow that (see `ls -la` and `lsattr` there), and the next start of `ncsnx train` removes it"),
        ) from error
    return None


def _is_begun(folder: Path, gone: Path, count: int) -> bool:
    """Whether a failed removal has removed some of `count` files; if none, the checkpoint is renamed back."""
    try:
        if len(reading.entries(gone)) < count:
            return True
        gone.rename(folder)
        atomic.sync_folder(folder.parent)
    except OSError:
        return gone.exists()
    return False


def remove_optimizer_state(folder: Path) -> None:
    """Removes the optimizer's state of a checkpoint that stays. Raises NcsnxError."""
    reading.refuse_links(folder.parent, folder)
    try:
        (folder / OPTIMIZER).unlink()
        atomic.sync_folder(folder)
    except OSError as error:
        raise NcsnxError(f"cannot remove {folder / OPTIMIZER}: {error.strerror or error}") from error
