"""Repairs: remove debris that is certainly ncsnx's own, and move unsound checkpoints aside."""

import os
import time
from pathlib import Path

from ncsnx.runs.checkpoints.leftovers import remove_leftover
from ncsnx.runs.folder import Run
from ncsnx.runs.writer_lock import folder_lock
from ncsnx.storage import atomic, reading

CREATION_LIMIT_S = 600.0
"""Age after which an incomplete folder counts as abandoned; creating one takes milliseconds."""


def move_aside(run: Run, folder: Path) -> str:
    """Moves an unsound checkpoint into the run's `unsound/`, under an unused name. Raises NcsnxError."""
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
    return f"moved to {target}, where it is not read; delete it once the run is sound"


def remove_leftover_of(place: Path, path: Path) -> None:
    """Like `remove_leftover`, under the lock of the sweep or samples folder. Raises NcsnxError while it is held."""
    with folder_lock(place, str(place)):
        remove_leftover(path)


def is_long_gone(path: Path) -> bool:
    """Whether a half-written file or folder is so old that no process is still writing it. Raises OSError."""
    age_s = time.time() - path.lstat().st_mtime
    return age_s > CREATION_LIMIT_S
