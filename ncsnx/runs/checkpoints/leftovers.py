"""What killed processes left half written or half removed in a run: what ncsnx wrote of it is removed."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ncsnx.errors import NcsnxError
from ncsnx.runs import exported
from ncsnx.runs.checkpoints.manifest import CHECKPOINT_FILES
from ncsnx.runs.folder import Run
from ncsnx.runs.names import step_of
from ncsnx.storage import atomic, reading

_CHECKPOINTS = "checkpoints"
BEGINNING = frozenset({"config.json", "origins.json", "experiment.py", _CHECKPOINTS})
"""What lies in the folder of a run that is being made."""
_EXPORT = frozenset({exported.CONFIG, exported.MODEL, exported.CARD, exported.PICTURE})


def remove_debris(run: Run) -> None:
    """Removes what killed processes left half written or half removed in the run, as far as that can be done.

    Call it under the writer's lock only: what another process is writing looks the same. Folders that aren't a
    checkpoint's stay: an export is written into a run without that lock.
    """
    remove_debris_in((run.path, run.checkpoints, run.snapshots))
    with suppress(OSError):  # whoever reads the checkpoints says what is wrong
        # where earlier versions wrote manifests anew, and where a version 1 manifest was being upgraded
        folders = [entry.path for entry in reading.entries(run.checkpoints) if step_of(entry.name) is not None]
        remove_debris_in(folders)


def remove_debris_in(folders: Iterable[Path]) -> None:
    """As `remove_debris`, in these folders alone. One that is a symbolic link is left alone."""
    for folder in folders:
        if folder.is_dir() and not folder.is_symlink():
            for entry in atomic.debris(folder):
                if was_checkpoint(entry) or entry.is_symlink() or not entry.is_dir():
                    with suppress(NcsnxError, OSError):  # `doctor` says what stays, and why
                        remove_leftover(entry)


def remove_leftover(path: Path) -> None:
    """Removes something half written or half removed, if ncsnx wrote everything in it.

    What is left of a checkpoint goes but for what ncsnx didn't write in it. Raises OSError, and NcsnxError that names
    what stays.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink()
        return
    foreign = foreign_names(path)
    if not foreign or was_checkpoint(path):
        for entry in reading.entries(path):
            if entry.name not in foreign:
                entry.path.rmdir() if entry.kind == "folder" else entry.path.unlink()
    if foreign:
        names = ", ".join(foreign)
        raise NcsnxError(f"{path} still holds {names}, which ncsnx did not write there; look at it and remove it")
    path.rmdir()


def was_checkpoint(path: Path) -> bool:
    """Whether something half written or half removed is, by its place and name, what is left of a checkpoint."""
    whole = atomic.whole_name(path.name)
    return path.parent.name == _CHECKPOINTS and whole is not None and step_of(whole) is not None


def foreign_names(folder: Path) -> list[str]:
    """Names of what ncsnx didn't write in a half-written folder. Raises OSError."""
    ours = CHECKPOINT_FILES if was_checkpoint(folder) else BEGINNING | _EXPORT
    foreign = []
    for entry in reading.entries(folder):
        if entry.kind == "folder" and entry.name in ours & {_CHECKPOINTS}:
            foreign += [f"{entry.name}/{inside.name}" for inside in reading.entries(entry.path)]
        elif entry.kind != "file" or (atomic.whole_name(entry.name) or entry.name) not in ours - {_CHECKPOINTS}:
            foreign.append(entry.name)
    return foreign
