"""Removing parts of a run so that a process killed halfway leaves nothing that passes for what it isn't.

A file of a checkpoint that stays is declared removed in the manifest, with what it was, before it goes; once it is
gone, the manifest says so. A whole checkpoint is renamed to a hidden name (`.step-00000150.removed-PID-TOKEN`), its
files go by the names that its manifest lists, the manifest last, then the folder, if nothing else is in it. What was
to go and is whole still comes back at the next start, and whoever removed it may decide anew. Nothing outside the
folder is touched, no link followed, no file of somebody else's removed.
"""

import errno
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs

from ncsnx.errors import NcsnxError
from ncsnx.runs.checkpoints.manifest import MANIFEST, FileRecord, Manifest, UnsoundError, read_manifest, strangers
from ncsnx.runs.folder import Run
from ncsnx.runs.names import step_name, step_of
from ncsnx.storage import atomic, reading

_REMOVED = re.compile(r"\.(step-[0-9]{8,})\.removed-[0-9]+-[0-9a-f]{8}")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def remove_files(folder: Path, names: Sequence[str]) -> None:
    """Removes files of a checkpoint for good, and declares it in the manifest first. Raises NcsnxError.

    Where a file can't be removed, the manifest is put back, so that the checkpoint is as it was.
    """
    manifest = read_manifest(folder)
    if unknown := sorted(set(names) - set(manifest.files)):
        raise NcsnxError(f"{folder} has no {', '.join(unknown)}; it holds {', '.join(sorted(manifest.files))}")
    going = {name: manifest.files[name] for name in names}
    declared = attrs.evolve(
        manifest,
        files={name: record for name, record in manifest.files.items() if name not in going},
        removed=(*manifest.removed, *names),
        removing={**manifest.removing, **going},
    )
    atomic.write_bytes(folder / MANIFEST, declared.to_bytes())
    try:
        with _removing(folder):
            _unlink(folder, names)
    except NcsnxError:
        if all(os.path.lexists(folder / name) for name in names):
            with suppress(NcsnxError):  # the declaration stays, and `finish_removals` tries again
                atomic.write_bytes(folder / MANIFEST, manifest.to_bytes())
        raise
    with suppress(NcsnxError):  # they are gone; that the manifest still calls it under way is for `finish_removals`
        atomic.write_bytes(folder / MANIFEST, attrs.evolve(declared, removing=manifest.removing).to_bytes())


def remove_checkpoint(folder: Path) -> str | None:
    """Removes a whole checkpoint. Raises NcsnxError, saying what is left; a remark where something isn't ours.

    A checkpoint in whose folder somebody put something of his own stays as it is.
    """
    manifest = read_manifest(folder)
    if foreign := _not_ours(folder, manifest):
        raise NcsnxError(
            f"{folder} stays, since it holds {', '.join(foreign)}, which ncsnx didn't write there; move that away"
        )
    gone = f".{folder.name}.removed-{os.getpid()}-{secrets.token_hex(4)}"
    with _removing(folder), _opened(folder.parent) as parent:
        os.rename(folder.name, gone, src_dir_fd=parent, dst_dir_fd=parent)
        os.fsync(parent)
        try:
            return _empty(folder.parent, parent, gone, manifest)
        except OSError:
            if _is_whole(folder.parent / gone, manifest):
                os.rename(gone, folder.name, src_dir_fd=parent, dst_dir_fd=parent)
                raise
            raise OSError(errno.EIO, f"part of it is left in {folder.parent / gone}") from None


def is_half_removed(entry: reading.Entry) -> bool:
    """Whether this is what an interrupted removal of a checkpoint leaves."""
    match = _REMOVED.fullmatch(entry.name)
    return entry.kind == "folder" and match is not None and step_of(match[1]) is not None


def finish_removals(run: Run) -> list[str]:
    """Brings removals that were interrupted to their end; returns a line for each that can't be.

    Call it under the writer's lock. What is whole still comes back; of a checkpoint that isn't, its own files go.
    """
    problems = []
    try:
        found = reading.entries(run.checkpoints)
    except OSError:
        return []  # whoever reads the checkpoints says what is wrong
    for entry in found:
        try:
            if is_half_removed(entry):
                problems += [remark] if (remark := finish_checkpoint(entry.path)) else []
            elif entry.kind == "folder" and step_of(entry.name) is not None:
                finish_files(entry.path)
        except UnsoundError:
            continue  # for `doctor`: a damaged manifest says nothing about what is left
        except NcsnxError as error:
            problems.append(str(error))
    return problems


def finish_checkpoint(gone: Path) -> str | None:
    """Removes what is left of a checkpoint under its hidden name, or gives it its own back if it is whole still.

    Returns a remark where something isn't ours and stays. Raises NcsnxError.
    """
    with _removing(gone):
        left = reading.entries(gone)
    manifest = read_manifest(gone) if left else Manifest(0, {})
    with _removing(gone), _opened(gone.parent) as parent:
        own = step_name(manifest.step)
        if left and _is_whole(gone, manifest) and not os.path.lexists(gone.with_name(own)):
            os.rename(gone.name, own, src_dir_fd=parent, dst_dir_fd=parent)
            os.fsync(parent)
            return None
        return _empty(gone.parent, parent, gone.name, manifest)


def finish_files(folder: Path) -> None:
    """Ends the interrupted removal of files from a checkpoint that stays: one that is there still comes back.

    Raises NcsnxError.
    """
    manifest = read_manifest(folder)
    with _removing(folder):
        _unlink(folder, half_written(folder))
        left = leftovers(folder, manifest)
    if manifest.removing:
        whole = attrs.evolve(
            manifest,
            files={**manifest.files, **{name: manifest.removing[name] for name in left}},
            removed=tuple(name for name in manifest.removed if name not in left),
            removing={},
        )
        atomic.write_bytes(folder / MANIFEST, whole.to_bytes())


def half_written(folder: Path) -> list[str]:
    """The manifests that a killed process left half written in a checkpoint's folder. Raises OSError."""
    return [entry.name for entry in reading.entries(folder) if atomic.is_temporary(entry.name, MANIFEST)]


def leftovers(folder: Path, manifest: Manifest) -> list[str]:
    """The files that an interrupted removal left in a checkpoint. Raises OSError.

    One that was put back since isn't among them, even with the same content: it came after the declaration.
    """
    declared = os.lstat(folder / MANIFEST).st_ctime_ns
    found = []
    for name, record in manifest.removing.items():
        with suppress(FileNotFoundError):
            # the time of the inode's last change, which copying tools can't set
            if os.lstat(folder / name).st_ctime_ns <= declared and _is(folder / name, record):
                found.append(name)
    return found


def _is(path: Path, record: FileRecord) -> bool:
    try:
        with reading.opened(path) as file:
            return reading.sha256(file) == record.sha256
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENODEV):
            return False
        raise


def _not_ours(folder: Path, manifest: Manifest) -> list[str]:
    """What a person would miss if the checkpoint went: unknown files, restored ones, links and folders."""
    found = {*strangers(folder, manifest)}
    with _removing(folder):
        left = leftovers(folder, manifest)
        for entry in reading.entries(folder):
            known = entry.name in manifest.files or entry.name == MANIFEST or entry.name in left
            if not entry.name.startswith(".") and (not known or entry.kind != "file"):
                found.add(entry.name)
    return sorted(found)


def _is_whole(gone: Path, manifest: Manifest) -> bool:
    return all(os.path.lexists(gone / name) for name in (*manifest.files, MANIFEST))


def _empty(place: Path, parent: int, gone: str, manifest: Manifest) -> str | None:
    """Removes the checkpoint's own files from the folder `gone` in `parent`, then the folder. Raises OSError.

    Returns a remark where something else is in it, which stays, and the folder with it.
    """
    inside = os.open(gone, _DIRECTORY, dir_fd=parent)
    try:
        for name in (*manifest.files, *manifest.removing, *half_written(place / gone), MANIFEST):
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=inside)
        os.fsync(inside)
    finally:
        os.close(inside)
    try:
        os.rmdir(gone, dir_fd=parent)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        names = ", ".join(entry.name for entry in reading.entries(place / gone))
        return f"{place / gone} was a checkpoint and still holds {names}, which ncsnx didn't write; move it away"
    os.fsync(parent)
    return None


def _unlink(folder: Path, names: Iterable[str]) -> None:
    with _opened(folder.parent) as parent:
        inside = os.open(folder.name, _DIRECTORY, dir_fd=parent)
        try:
            for name in names:
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=inside)
            os.fsync(inside)
        finally:
            os.close(inside)


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    """A descriptor of a folder, by which its entries are named without another look at the path. Raises OSError."""
    if folder.is_symlink():
        raise OSError(errno.ELOOP, f"{folder} is a symbolic link, and those are not followed")
    descriptor = os.open(folder, _DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _removing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NcsnxError(f"can't remove {path}: {error.strerror or error}") from error
