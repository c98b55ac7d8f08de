"""What `--repair` does: it removes debris that is certainly ours, and moves what isn't sound aside."""

import os
import time
from pathlib import Path

from ncsnx.errors import NcsnxError
from ncsnx.runs import atomic, reading
from ncsnx.runs.folder import Run
from ncsnx.runs.lock import folder_lock
from ncsnx.runs.manifest import MANIFEST, STATE
from ncsnx.runs.names import part_file

CREATION_LIMIT_S = 600.0
"""What makes a run's folder takes milliseconds; after this time whoever began it is gone."""

_PARTS = {part_file(part) for part in ("model", "ema", "optimizer")}
_OURS = {*_PARTS, STATE, MANIFEST, "config.json", "origins.json", "experiment.py"}
_NESTED = {"checkpoints"}


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
    return f"moved to {target}; nothing reads it there, and it may be deleted"


def remove_leftover(path: Path) -> str | None:
    """Removes what a killed writer left half written, as far as it is made of files that ncsnx writes.

    Raises OSError, and NcsnxError that names what isn't ours, which stays with its folder.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink()
        return None
    foreign = _foreign(path)
    if foreign:
        raise NcsnxError(f"it holds {', '.join(foreign)}, which ncsnx doesn't write there; look at it and remove it")
    for entry in reading.entries(path):
        if entry.kind == "folder":
            entry.path.rmdir()
        else:
            entry.path.unlink()
    path.rmdir()
    return None


def remove_leftover_of(place: Path, path: Path) -> str | None:
    """As `remove_leftover`, of a sweep or sampling, whose folder has a lock. Raises NcsnxError while it is held."""
    with folder_lock(place, str(place)):
        return remove_leftover(path)


def is_long_gone(path: Path) -> bool:
    """Whether what is half written was begun so long ago that nobody is at it any more. Raises OSError."""
    age_s = time.time() - path.lstat().st_mtime
    return age_s > CREATION_LIMIT_S


def _foreign(folder: Path) -> list[str]:
    """What in a half-written folder isn't made by ncsnx."""
    found = []
    for entry in reading.entries(folder):
        if entry.kind == "folder":
            known = entry.name in _NESTED and not reading.entries(entry.path)
        else:
            known = entry.kind == "file" and (atomic.whole_name(entry.name) or entry.name) in _OURS
        if not known:
            found.append(entry.name)
    return found
