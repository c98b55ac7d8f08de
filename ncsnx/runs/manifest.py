"""The protocol of a checkpoint's folder: complete by name, sound by hash.

Files are written into a hidden sibling folder, the manifest with the sha256 of each (and of itself) last;
then the folder is renamed. So a folder `step-00000150` is complete, whatever was killed; whether its bytes
are still those that were written, the manifest tells.
"""

import errno
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Self

import attrs

from ncsnx.config.canonical import digest
from ncsnx.errors import NcsnxError, UsageError
from ncsnx.runs import atomic, reading
from ncsnx.runs.folder import Run
from ncsnx.runs.names import parse_step, step_name, step_of
from ncsnx.runs.parsing import parse_json
from ncsnx.runs.scores import Best, best_checkpoint

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
# What a file system answers when it is the checkpoint that is at fault, not the permissions or the process.
_FAULTS = {
    errno.ENOENT: "is missing",
    errno.ENOTDIR: "is missing",
    errno.ELOOP: "is a symbolic link, and those are not followed",
    errno.ENODEV: "isn't a file",
    errno.ENXIO: "isn't a file",
    errno.EFBIG: "is larger than any such file",
    errno.EIO: "can't be read: the disk reports an error",
}


class UnsoundError(NcsnxError):
    """A checkpoint whose files are not those that were written."""


@attrs.frozen
class FileRecord:
    """What a file must be: its sha256 in hexadecimal and its size in bytes."""

    sha256: str = attrs.field(validator=attrs.validators.matches_re("[0-9a-f]{64}"))
    size: int = attrs.field(validator=attrs.validators.ge(0))

    @classmethod
    def of(cls, content: bytes) -> Self:
        """The record of a file with this content."""
        return cls(hashlib.sha256(content).hexdigest(), len(content))


@attrs.frozen
class Manifest:
    """What a checkpoint's folder must hold."""

    step: int
    files: dict[str, FileRecord]
    removed: tuple[str, ...] = ()
    """Files that were there once and were removed on purpose."""

    def to_bytes(self) -> bytes:
        """The file: readable JSON with a digest of its own canonical form."""
        files = {name: {"sha256": file.sha256, "bytes": file.size} for name, file in sorted(self.files.items())}
        content = {
            "schema_version": SCHEMA_VERSION,
            "step": self.step,
            "files": files,
            "removed": sorted(self.removed),
        }
        return atomic.json_bytes({**content, "digest": digest(content)})


def write_checkpoint(parent: Path, step: int, files: Iterable[tuple[str, bytes]]) -> Path:
    """Writes the checkpoint of `step` into `parent`; returns its folder, which appears whole or not at all.

    `files` gives names and contents; a generator keeps only one content in memory. An unsound folder of that
    name is moved aside (`step-00000150.unsound-1`), a sound one refused. Raises NcsnxError where the system
    refuses.
    """
    reading.refuse_links(parent)
    final = parent / step_name(step)
    _make_way(final)
    with atomic.new_folder(final) as folder:
        records: dict[str, FileRecord] = {}
        for name, content in files:
            atomic.write_new(folder / name, content, shown=final / name)
            records[name] = FileRecord.of(content)
        atomic.write_new(folder / MANIFEST, Manifest(step, records).to_bytes(), shown=final / MANIFEST)
    return final


def remove_files(folder: Path, names: Sequence[str]) -> None:
    """Removes files of a checkpoint for good, and declares it in the manifest first. Raises NcsnxError."""
    manifest = read_manifest(folder)
    if unknown := sorted(set(names) - set(manifest.files)):
        raise NcsnxError(f"{folder} has no {', '.join(unknown)}; it holds {', '.join(sorted(manifest.files))}")
    kept = {name: record for name, record in manifest.files.items() if name not in names}
    declared = Manifest(manifest.step, kept, (*manifest.removed, *names))
    atomic.write_bytes(folder / MANIFEST, declared.to_bytes())
    with atomic.reporting(folder):
        for name in names:
            (folder / name).unlink(missing_ok=True)
        atomic.sync_folder(folder)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a checkpoint's folder, checked by its digest and against the folder's name.

    Raises UnsoundError, and NcsnxError for a manifest that only a newer ncsnx can read.
    """
    reading.refuse_links(folder.parent)
    if folder.is_symlink():
        raise UnsoundError(f"{folder} {_FAULTS[errno.ELOOP]}")
    path = folder / MANIFEST
    manifest = _parsed(path, _read(path))
    if step_of(folder.name) not in (None, manifest.step):
        raise UnsoundError(f"{folder} holds the checkpoint of another step, {manifest.step}")
    return manifest


def read_verified(folder: Path, manifest: Manifest, name: str) -> bytes:
    """The content of one file, read once and compared with its record. Raises UnsoundError."""
    record = _record(folder, manifest, name)
    with _reading(folder / name), reading.opened(folder / name) as file:
        _check_size(folder / name, record, os.fstat(file.fileno()).st_size)
        content = file.read(record.size + 1)
    _check_size(folder / name, record, len(content))
    _check_hash(folder / name, record, hashlib.sha256(content).hexdigest())
    return content


def verify(folder: Path, names: Iterable[str] | None = None) -> Manifest:
    """Reads a checkpoint's manifest and every file it lists (or only `names`), and compares.

    Without `names`, files that the manifest doesn't know are refused too. Raises UnsoundError that says what
    is wrong.
    """
    manifest = read_manifest(folder)
    if names is None:
        _refuse_strangers(folder, manifest)
    for name in sorted(manifest.files) if names is None else names:
        record = _record(folder, manifest, name)
        with _reading(folder / name), reading.opened(folder / name) as file:
            _check_size(folder / name, record, os.fstat(file.fileno()).st_size)
            _check_hash(folder / name, record, hashlib.file_digest(file, "sha256").hexdigest())
    return manifest


def checkpoints(run: Run) -> list[int]:
    """The steps of the run's complete checkpoints, ascending, sound or not. Raises NcsnxError."""
    reading.refuse_links(run.checkpoints)
    try:
        found = [step_of(entry.name) for entry in run.checkpoints.iterdir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise NcsnxError(f"can't read {run.checkpoints}: {error.strerror}") from error
    return sorted(step for step in found if step is not None)


def latest_sound(run: Run) -> tuple[int | None, list[tuple[int, str]]]:
    """The newest sound checkpoint (None: there is none), and the newer ones that aren't, with the reason.

    A file that somebody put beside a checkpoint's own doesn't make it unsound.
    """
    unsound: list[tuple[int, str]] = []
    for step in reversed(checkpoints(run)):
        try:
            _verify_own(run.checkpoints / step_name(step))
        except UnsoundError as error:
            unsound.append((step, str(error)))
        else:
            return step, unsound
    return None, unsound


def resolve_checkpoint(run: Run, wanted: int | str = "latest") -> Path:
    """The folder that --ckpt means: a step, however typed, `latest` or `best`.

    A step is only found; who loads it verifies what it reads. `latest` is verified whole. Raises UsageError
    for a step that can't be understood or isn't there, UnsoundError if the latest is unsound, NcsnxError if
    there is none, or no score yet.
    """
    step = parse_step(wanted) if isinstance(wanted, str) else wanted
    steps = checkpoints(run)
    if step == "best":
        return run.checkpoints / step_name(require_best(run).step)
    if not steps:
        raise NcsnxError(f"run {run.name!r} has no checkpoint yet; `ncsnx train` writes the first")
    if step == "latest":
        return _latest(run, steps)
    if step not in steps:
        nearest = sorted(sorted(steps, key=lambda other: abs(other - step))[:4])
        raise UsageError(f"run {run.name!r} has no checkpoint of step {step}; nearest: {', '.join(map(str, nearest))}")
    return run.checkpoints / step_name(step)


def require_best(run: Run) -> Best:
    """The checkpoint that `best` means, and which sweep says so. Raises NcsnxError before there is a score."""
    best = best_checkpoint(run, partial(_holds, run))
    if best is None:
        raise NcsnxError(
            f"run {run.name!r} has no best checkpoint: no scores yet, run `ncsnx fid {run.name}` (scores of ensembles, "
            "and of weights that aren't there any more, don't count)"
        )
    return best


def remove_debris(run: Run) -> list[str]:
    """Removes what killed writers left half written in the run; returns the names.

    Call it under the writer's lock only: what another process is writing looks the same.
    """
    return atomic.remove_debris((run.path, run.checkpoints, run.snapshots))


def _holds(run: Run, step: int, weights_sha256: str) -> bool:
    """Whether the checkpoint of `step` is there and holds a file with this hash, by its manifest."""
    try:
        files = read_manifest(run.checkpoints / step_name(step)).files
    except UnsoundError:
        return False
    return any(record.sha256 == weights_sha256 for record in files.values())


def _verify_own(folder: Path) -> None:
    """Verifies every file that the manifest lists, whatever else somebody put there."""
    verify(folder, read_manifest(folder).files)


def _latest(run: Run, steps: list[int]) -> Path:
    folder = run.checkpoints / step_name(steps[-1])
    try:
        _verify_own(folder)
    except UnsoundError as error:
        earlier = f"--ckpt {steps[-2]} is the one before" if len(steps) > 1 else "there is no earlier one"
        raise UnsoundError(f"the latest checkpoint of run {run.name!r} is unsound: {error}; {earlier}") from error
    return folder


def _make_way(folder: Path) -> None:
    if not os.path.lexists(folder):
        return
    try:
        verify(folder)
    except UnsoundError:
        number = 1
        while os.path.lexists(aside := folder.with_name(f"{folder.name}.unsound-{number}")):
            number += 1
        with atomic.reporting(aside):
            folder.rename(aside)
    else:
        raise NcsnxError(f"{folder} exists already and is sound; nothing is overwritten")


def _parsed(path: Path, written: bytes) -> Manifest:
    try:
        content = parse_json(written)
        intact = isinstance(content, dict) and content.pop("digest", None) == digest(content)
    except ValueError:
        content, intact = {}, False
    if not intact:
        raise UnsoundError(f"{path} is damaged: its content doesn't have the digest that it declares")
    version = content.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise NcsnxError(f"{path} has version {version}, newer than this ncsnx reads ({SCHEMA_VERSION}); update ncsnx")
    match content:
        case {"schema_version": 1, "step": int(step), "files": dict(files), "removed": list(removed)}:
            names = [*files, *removed]
            with suppress(KeyError, TypeError, ValueError):
                records = {name: FileRecord(file["sha256"], file["bytes"]) for name, file in files.items()}
                if all(_PLAIN_NAME.fullmatch(name) and name != MANIFEST for name in names):
                    return Manifest(step, records, tuple(removed))
    raise UnsoundError(f"{path} isn't the manifest of a checkpoint")


def _record(folder: Path, manifest: Manifest, name: str) -> FileRecord:
    if name in manifest.files:
        return manifest.files[name]
    if name in manifest.removed:
        raise NcsnxError(f"{folder / name} was removed on purpose, as its manifest says; choose another checkpoint")
    raise NcsnxError(f"{folder} holds no {name}; it holds {', '.join(sorted(manifest.files))}")


def _check_size(path: Path, record: FileRecord, size: int) -> None:
    if size != record.size:
        raise UnsoundError(f"{path} has {size:,} bytes instead of {record.size:,}")


def _check_hash(path: Path, record: FileRecord, sha256: str) -> None:
    if sha256 != record.sha256:
        raise UnsoundError(f"{path} is damaged: its sha256 isn't the one in the manifest")


def _refuse_strangers(folder: Path, manifest: Manifest) -> None:
    # hidden files are left alone: file systems and desktops put them anywhere, and nothing here reads them
    with _reading(folder):
        present = {entry.name for entry in folder.iterdir() if not entry.name.startswith(".")}
    strangers = sorted(present - set(manifest.files) - set(manifest.removed) - {MANIFEST})
    if strangers:
        raise UnsoundError(f"{folder} holds {', '.join(strangers)}, which its manifest doesn't know")


def _read(path: Path) -> bytes:
    with _reading(path):
        return reading.read_bytes(path, reading.JSON_LIMIT)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FAULTS:
            raise UnsoundError(f"{path} {_FAULTS[error.errno]}") from error
        raise NcsnxError(f"can't read {path}: {error.strerror}") from error
