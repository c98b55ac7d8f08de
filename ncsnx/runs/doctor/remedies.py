"""What a repair does: it removes debris that is certainly ours, and moves what isn't sound aside."""

import os
import time
from pathlib import Path

from ncsnx.runs.checkpoints.leftovers import remove_leftover
from ncsnx.runs.folder import Run
from ncsnx.runs.writer_lock import folder_lock
from ncsnx.storage import atomic, reading

CREATION_LIMIT_S = 600.0
"""What makes a run's folder takes milliseconds; after this time whoever began it is gone."""


def move_aside(run: Run, folder: Path) -> str:
    """Moves an unsound checkpoint into the run's `unsound/`, under a name that is free. Raises NcsnxError."""
    reading.refuse_links(run.unsound)
    target, number = run.unsound / folder.name, 1
    while os.path.lexists(target):
        number += 1
        target = run.unsound / f"{folder.name}-{number}"
    with atomic.reporting(target):
        run.unsound.mkdir(exist_ok=True)
        folder.rename(target)
        atomic.sync_folder(run.unsound)
        atomic.sync_folder(folder.parent)
    return f"moved to {target}; nothing reads it there, and once the run is well again it may be deleted"


def remove_leftover_of(place: Path, path: Path) -> None:
    """As `remove_leftover`, of a sweep or sampling, whose folder has a lock. Raises NcsnxError while it is held."""
    with folder_lock(place, str(place)):
        remove_leftover(path)


def is_long_gone(path: Path) -> bool:
    """Whether what is half written was begun so long ago that nobody is at it any more. Raises OSError."""
    age_s = time.time() - path.lstat().st_mtime
    return age_s > CREATION_LIMIT_S
