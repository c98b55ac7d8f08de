"""What killed processes left half written or half removed in a run: files that ncsnx writes there are removed."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ncsnx.errors import NcsnxError
from ncsnx.runs.checkpoints.manifest import MANIFEST, STATE
from ncsnx.runs.folder import Run
from ncsnx.runs.names import part_file, step_of
from ncsnx.storage import atomic, reading

OURS = {
    *(part_file(part) for part in ("model", "ema", "optimizer")),
    *(STATE, MANIFEST, "config.json", "origins.json", "experiment.py"),
}
"""Files of checkpoints, and of the beginnings of runs."""
_NESTED = {"checkpoints"}


def remove_debris(run: Run) -> None:
    """Removes what killed processes left half written or half removed in the run, as far as that can be done.

    Call it under the writer's lock only: what another process is writing looks the same.
    """
    remove_debris_in((run.path, run.checkpoints, run.snapshots))
    with suppress(OSError):  # whoever reads the checkpoints says what is wrong
        # where earlier versions wrote manifests anew
        folders = [entry.path for entry in reading.entries(run.checkpoints) if step_of(entry.name) is not None]
        remove_debris_in(folders)


def remove_debris_in(folders: Iterable[Path]) -> None:
    """As `remove_debris`, in these folders alone. One that is a symbolic link is left alone."""
    for folder in folders:
        if folder.is_dir() and not folder.is_symlink():
            for entry in atomic.debris(folder):
                with suppress(NcsnxError, OSError):  # `doctor` says what stays, and why
                    remove_leftover(entry)


def remove_leftover(path: Path) -> None:
    """Removes something half written or half removed, but for what ncsnx didn't write in it.

    Raises OSError, and NcsnxError that names what stays.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink()
        return
    for entry in reading.entries(path):
        if is_ours(entry) and entry.kind == "folder":
            with suppress(OSError):  # one that isn't empty stays, and is named
                entry.path.rmdir()
        elif is_ours(entry):
            entry.path.unlink()
    if names := ", ".join(entry.name for entry in reading.entries(path)):
        raise NcsnxError(f"{path} still holds {names}, which ncsnx didn't write there; look at it and remove it")
    path.rmdir()


def is_ours(entry: reading.Entry) -> bool:
    """Whether something in a half-written folder was made by ncsnx."""
    if entry.kind == "folder":
        return entry.name in _NESTED
    return entry.kind == "file" and (atomic.whole_name(entry.name) or entry.name) in OURS
