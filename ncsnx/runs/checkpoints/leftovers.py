"""What killed writers left half written in a run: removed as far as it is made of files that ncsnx writes there."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ncsnx.errors import NcsnxError
from ncsnx.runs.checkpoints.manifest import MANIFEST, STATE
from ncsnx.runs.folder import Run
from ncsnx.runs.names import part_file
from ncsnx.storage import atomic, reading

OURS = {
    *(part_file(part) for part in ("model", "ema", "optimizer")),
    *(STATE, MANIFEST, "config.json", "origins.json", "experiment.py"),
}
"""Files of checkpoints, and of the beginnings of runs."""
_NESTED = {"checkpoints"}


def remove_debris(run: Run) -> None:
    """Removes what killed writers left half written in the run, as far as that can be done.

    Call it under the writer's lock only: what another process is writing looks the same.
    """
    remove_debris_in((run.path, run.checkpoints, run.snapshots))


def remove_debris_in(folders: Iterable[Path]) -> None:
    """As `remove_debris`, in these folders alone. One that is a symbolic link is left alone."""
    for folder in folders:
        if folder.is_dir() and not folder.is_symlink():
            for entry in atomic.debris(folder):
                with suppress(NcsnxError, OSError):  # `doctor` says what stays, and why
                    remove_leftover(entry)


def remove_leftover(path: Path) -> None:
    """Removes something half written. Raises OSError, and NcsnxError that names what isn't ours, which stays."""
    if path.is_symlink() or not path.is_dir():
        path.unlink()
        return
    if foreign := _foreign(path):
        raise NcsnxError(f"it holds {', '.join(foreign)}, which ncsnx doesn't write there; look at it and remove it")
    for entry in reading.entries(path):
        if entry.kind == "folder":
            entry.path.rmdir()
        else:
            entry.path.unlink()
    path.rmdir()


def _foreign(folder: Path) -> list[str]:
    """What in a half-written folder isn't made by ncsnx."""
    found = []
    for entry in reading.entries(folder):
        if entry.kind == "folder":
            known = entry.name in _NESTED and not reading.entries(entry.path)
        else:
            known = entry.kind == "file" and (atomic.whole_name(entry.name) or entry.name) in OURS
        if not known:
            found.append(entry.name)
    return found
