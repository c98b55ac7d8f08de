"""Removing checkpoints and optimizer states, each in one step: killed at any moment, it is whole or gone.

A whole checkpoint is renamed to what is debris by its name, an optimizer's state is unlinked. Neither needs room on the
disk, follows a link, or touches anything else.
"""

import errno
import os
from pathlib import Path

from ncsnx.errors import NcsnxError
from ncsnx.runs.checkpoints.leftovers import remove_leftover
from ncsnx.runs.checkpoints.manifest import OPTIMIZER, read_manifest, strangers
from ncsnx.storage import atomic, reading


def remove_checkpoint(folder: Path) -> str | None:
    """Removes a whole checkpoint. Raises NcsnxError; a remark where something in it isn't ours, and is left.

    A checkpoint in whose folder somebody put something of his own stays as it is, but for hidden files.
    """
    if foreign := strangers(folder, read_manifest(folder)):
        raise NcsnxError(
            f"{folder} stays, since it holds {', '.join(foreign)}, which ncsnx didn't write there; move that away"
        )
    gone = atomic.temporary_sibling(folder)
    try:
        if not os.access(folder, os.W_OK | os.X_OK):  # renaming asks for no permission here, emptying it does
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        folder.rename(gone)
        atomic.sync_folder(gone.parent)
        remove_leftover(gone)
    except NcsnxError as error:
        return str(error)
    except OSError as error:
        left = f"{folder}; what is left of it is {gone.name}" if gone.exists() else folder
        raise NcsnxError(f"can't remove {left}: {error.strerror or error}") from error
    return None


def remove_optimizer_state(folder: Path) -> None:
    """Removes the optimizer's state of a checkpoint that stays. Raises NcsnxError."""
    reading.refuse_links(folder.parent, folder)
    try:
        (folder / OPTIMIZER).unlink()
        atomic.sync_folder(folder)
    except OSError as error:
        raise NcsnxError(f"can't remove {folder / OPTIMIZER}: {error.strerror or error}") from error
