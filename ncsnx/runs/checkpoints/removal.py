"""Removing checkpoints and optimizer states, each in one step: killed at any moment, it is whole or gone.

A whole checkpoint is renamed to what is debris by its name, an optimizer's state is unlinked. Neither needs room on the
disk, follows a link, or touches anything else, but for a manifest of an earlier version, which is brought up to date.
"""

import errno
import os
from pathlib import Path

from ncsnx.errors import NcsnxError
from ncsnx.runs.checkpoints.leftovers import remove_leftover
from ncsnx.runs.checkpoints.manifest import OPTIMIZER, read_manifest, renew_manifest, strangers
from ncsnx.storage import atomic, reading

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def remove_checkpoint(folder: Path) -> str | None:
    """Removes a whole checkpoint. Raises NcsnxError; returns a remark where something in it isn't ours, and is left.

    A checkpoint in whose folder somebody put something of his own stays as it is. Hidden files don't keep it: they stay
    in the debris, which the remark names.
    """
    if foreign := strangers(folder, read_manifest(folder)):
        raise NcsnxError(
            f"{folder} stays, since it holds {', '.join(foreign)}, which ncsnx did not write there; move that away"
        )
    gone = atomic.temporary_sibling(folder)
    before: list[reading.Entry] = []
    try:
        before = reading.entries(folder)
        if not os.access(folder, os.W_OK | os.X_OK):  # renaming asks for no permission here, emptying it does
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        folder.rename(gone)
        atomic.sync_folder(gone.parent)
        remove_leftover(gone)
    except NcsnxError as error:
        return str(error)
    except OSError as error:
        left = f"; what is left of it is {gone.name}" if _is_begun(folder, gone, len(before)) else ""
        raise NcsnxError(
            f"cannot remove {folder}: {error.strerror or error}{left}; allow that (see `ls -la` and `lsattr` there), "
            "and the next start of `ncsnx train` removes it"
        ) from error
    return None


def _is_begun(folder: Path, gone: Path, count: int) -> bool:
    """Whether a refused removal has removed some of so many files; if none, the checkpoint gets its name back."""
    try:
        if len(reading.entries(gone)) < count:
            return True
        gone.rename(folder)
        atomic.sync_folder(folder.parent)
    except OSError:
        return gone.exists()
    return False


def remove_optimizer_state(folder: Path) -> None:
    """Removes the optimizer's state of a checkpoint that stays. Raises NcsnxError.

    Programs that know version 1 of the manifest only would call a checkpoint without its state damaged, and move it
    away; a later version they refuse. So one of version 1 is written anew before, unless the disk is full.
    """
    reading.refuse_links(folder.parent, folder)
    try:
        renew_manifest(folder)
    except NcsnxError as error:
        if getattr(error.__cause__, "errno", None) not in _NO_ROOM:
            raise
    try:
        (folder / OPTIMIZER).unlink()
        atomic.sync_folder(folder)
    except OSError as error:
        raise NcsnxError(f"cannot remove {folder / OPTIMIZER}: {error.strerror or error}") from error
