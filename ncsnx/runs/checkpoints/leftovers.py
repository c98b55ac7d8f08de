"""Removes what killed processes left half written or half removed in a run, if ncsnx wrote it."""

import errno
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ncsnx.errors import Hint, NcsnxError
from ncsnx.runs import exported
from ncsnx.runs.checkpoints.manifest import CHECKPOINT_FILES
from ncsnx.runs.folder import Run
from ncsnx.runs.names import step_of
from ncsnx.storage import atomic, reading

_CHECKPOINTS = "checkpoints"
BEGINNING = frozenset({"config.json", "origins.json", "experiment.py", _CHECKPOINTS})
"""Names in the folder of a run that is being created."""
_EXPORT = frozenset({exported.CONFIG, exported.MODEL, exported.CARD, exported.PICTURE})


def remove_debris(run: Run) -> None:
    """Removes what killed processes left half written or half removed in the run, as far as possible.

    Call it only under the writer's lock: files that another process is writing look the same. Folders other than
    checkpoints stay, since an export is written into a run without that lock.
    """
    remove_debris_in((run.path, run.checkpoints, run.snapshots))


def remove_debris_in(folders: Iterable[Path]) -> None:
    """Like `remove_debris`, in these folders only. Symbolic links are skipped."""
    for folder in folders:
        if folder.is_dir() and not folder.is_symlink():
            for entry in atomic.debris(folder):
                if was_checkpoint(entry) or entry.is_symlink() or not entry.is_dir():
                    with suppress(NcsnxError, OSError):  # `doctor` reports what could not be removed
                        remove_leftover(entry)


def remove_leftover(path: Path) -> None:
    """Removes a half-written or half-removed file or folder, if ncsnx wrote all of it.

    From the rest of a checkpoint, only the files of ncsnx are removed. On network file systems, a folder with open
    files stays, and a later call removes it. Raises OSError, and NcsnxError that names files that stay.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink()
        return
    foreign = foreign_names(path)
    if not foreign or was_checkpoint(path):
        for entry in reading.entries(path):
            if entry.name not in foreign and not atomic.is_still_open(entry.name):
                entry.path.rmdir() if entry.kind == "folder" else entry.path.unlink()
    if foreign:
        names = ", ".join(foreign)
        raise NcsnxError(
            f"{path} still holds {names}, which ncsnx did not write there", Hint("inspect it, then remove it yourself")
        )
    try:
        path.rmdir()
    except OSError as error:
        if error.errno != errno.ENOTEMPTY or not all(
            atomic.is_still_open(entry.name) for entry in reading.entries(path)
        ):
            raise


def was_checkpoint(path: Path) -> bool:
    """Whether a half-written or half-removed path is the rest of a checkpoint, by its location and name."""
    whole = atomic.whole_name(path.name)
    return path.parent.name == _CHECKPOINTS and whole is not None and step_of(whole) is not None


def foreign_names(folder: Path) -> list[str]:
    """Names in a half-written folder that ncsnx didn't write. Raises OSError."""
    ours = CHECKPOINT_FILES if was_checkpoint(folder) else BEGINNING | _EXPORT
    foreign = []
    for entry in reading.entries(folder):
        if entry.kind == "folder" and entry.name in ours & {_CHECKPOINTS}:
            foreign += [f"{entry.name}/{inside.name}" for inside in reading.entries(entry.path)]
        elif atomic.is_still_open(entry.name):
            continue
        elif entry.kind != "file" or (atomic.whole_name(entry.name) or entry.name) not in ours - {_CHECKPOINTS}:
            foreign.append(entry.name)
    return foreign
