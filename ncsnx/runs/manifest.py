"""The protocol of a checkpoint's folder: the name says that it is complete, the hashes that it is sound.

Files are written into a hidden sibling folder. The manifest, with the sha256 of each file and of itself, comes last;
then the folder is renamed. So a folder named `step-00000150` is complete, whatever was killed, and its manifest tells
whether its bytes are still those that were written.
"""

import errno
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, Self

import attrs

from ncsnx import bounded_reads
from ncsnx.bounded_reads import parse_json
from ncsnx.config import checks
from ncsnx.config.converter import NewerVersionError, StructureError
from ncsnx.config.experiment import MOST_STEPS
from ncsnx.config.variants import VERSION
from ncsnx.errors import NcsnxError, quoted
from ncsnx.quantities import counted
from ncsnx.runs.names import part_file, step_name, step_of
from ncsnx.storage import atomic
from ncsnx.storage.documents import document, document_bytes, parse_document

MANIFEST = "manifest.json"
STATE = "state.json"
CHECKPOINT_FILES = frozenset({*map(part_file, ("model", "ema", "optimizer")), STATE, MANIFEST})
"""Names of the files in a checkpoint's folder."""
SET_ASIDE = "step-*.unsound-*"
"""Pattern of the names of unsound checkpoints that were set aside."""
# System errors that mean a fault of the checkpoint, not of permissions or the process.
_FAULTS = {
    errno.ENOENT: "is missing",
    errno.ENOTDIR: "is missing",
    errno.ENODEV: "is not a file",
    errno.EIO: "cannot be read: the disk reports an error",
}


class PiecewiseContent(Protocol):
    """Content of a file that is made piece by piece, so that it need not fit into memory."""

    def __len__(self) -> int:
        """Size in bytes."""

    def __iter__(self) -> Iterator[bytes | memoryview]:
        """The pieces in order."""


_Content = bytes | PiecewiseContent  # an alias, since FileRecord has a field named `bytes`


class UnsoundError(NcsnxError):
    """A checkpoint whose files differ from those that were written."""


@attrs.frozen
class FileRecord:
    """Hash and size that a file must have."""

    sha256: str = attrs.field(validator=checks.sha256_hex)
    """sha256 (hexadecimal)."""
    bytes: int = attrs.field(validator=checks.not_negative)
    """Size in bytes."""

    @classmethod
    def of(cls, content: _Content) -> Self:
        """The record of a file with this content."""
        found = hashlib.sha256()
        for piece in _pieces(content):
            found.update(piece)
        return cls(found.hexdigest(), len(content))


@document("the manifest of a checkpoint", sealed=True)
@attrs.frozen
class Manifest:
    """Files of a checkpoint's folder, as recorded when it was written."""

    schema_version: int = attrs.field(default=1, kw_only=True, metadata=VERSION)
    step: int = attrs.field(validator=checks.between(0, MOST_STEPS))
    files: dict[str, FileRecord]
    """Files by name, without the manifest itself."""

    def __attrs_post_init__(self) -> None:
        for name in self.files:
            if name not in CHECKPOINT_FILES - {MANIFEST}:
                raise checks.FieldError("files", f"must be files of a checkpoint, not {quoted(name)}")


def write_checkpoint(parent: Path, step: int, files: Iterable[tuple[str, bytes | PiecewiseContent]]) -> Path:
    """Writes the checkpoint of `step` into `parent` atomically; returns its folder.

    files: names and contents; a generator keeps only one content in memory. An existing unsound folder is moved aside
    (`step-00000150.unsound-1`). Raises NcsnxError if a sound checkpoint already exists or if writing fails.
    """
    final = parent / step_name(step)
    _make_way(final)
    with atomic.new_folder(final) as folder:
        records: dict[str, FileRecord] = {}
        for name, content in files:
            found = hashlib.sha256()
            atomic.write_pieces(folder / name, _hashed(content, found), len(content), shown=final / name)
            records[name] = FileRecord(found.hexdigest(), len(content))
            del content  # freed before the next is made: together they may not fit in memory
        atomic.write_new(folder / MANIFEST, document_bytes(Manifest(step, records)), shown=final / MANIFEST)
    return final


def _hashed(content: bytes | PiecewiseContent, found: "hashlib._Hash") -> Iterator[bytes | memoryview]:
    """The pieces, each hashed on its way."""
    for piece in _pieces(content):
        found.update(piece)
        yield piece


def _pieces(content: bytes | PiecewiseContent) -> Iterable[bytes | memoryview]:
    return [content] if isinstance(content, bytes) else content


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a checkpoint's folder, checked by its digest and against the folder's name.

    Raises UnsoundError for an invalid manifest, NcsnxError for a manifest of a newer ncsnx.
    """
    path = folder / MANIFEST
    with _reading(path):
        content = bounded_reads.read_bytes(path, bounded_reads.JSON_LIMIT)
    try:
        manifest = parse_document(content, Manifest, path)
    except NewerVersionError:
        raise
    except StructureError as error:
        raise UnsoundError(str(error)) from error
    if step_of(folder.name) not in (None, manifest.step):
        raise UnsoundError(f"{folder} holds the checkpoint of another step, {manifest.step}")
    return manifest


def read_verified(folder: Path, manifest: Manifest, name: str) -> bytes:
    """The content of one file, read once and checked against its record. Raises UnsoundError."""
    path = folder / name
    if name not in manifest.files:
        raise UnsoundError(f"{folder} holds no {name}; it holds {', '.join(sorted(manifest.files))}")
    with _reading(path):
        content = bounded_reads.read_bytes(path)
    _check(path, manifest.files[name], len(content), hashlib.sha256(content).hexdigest())
    return content


def read_state(folder: Path, manifest: Manifest) -> dict[str, Any]:
    """The state of the training loop, checked by its hash. Raises UnsoundError."""
    try:
        state = parse_json(read_verified(folder, manifest, STATE))
    except ValueError as error:
        raise UnsoundError(f"{folder / STATE} is not JSON: {error}") from error
    if not isinstance(state, dict):
        raise UnsoundError(f"{folder / STATE} is not a JSON object")
    return state


def verify(folder: Path, watch: bounded_reads.Watch = bounded_reads.unwatched) -> Manifest:
    """Verifies a checkpoint's manifest and every file that it lists; returns the manifest.

    watch: called with the number of bytes of each piece read; may raise to stop reading. Raises UnsoundError.
    """
    manifest = read_manifest(folder)
    for name, record in sorted(manifest.files.items()):
        with _reading(folder / name), bounded_reads.opened(folder / name) as file:
            size, sha256 = os.fstat(file.fileno()).st_size, bounded_reads.sha256(file, watch)
        _check(folder / name, record, size, sha256)
    return manifest


class HasCheckpoints(Protocol):
    """A run, to modules that the module of runs imports."""

    @property
    def checkpoints(self) -> Path: ...


def checkpoints(run: HasCheckpoints) -> list[int]:
    """Steps of the run's complete checkpoints, ascending, sound or not. Raises NcsnxError."""
    with bounded_reads.reading(run.checkpoints), suppress(FileNotFoundError):
        found = [step_of(entry.name) for entry in run.checkpoints.iterdir()]
        return sorted(step for step in found if step is not None)
    return []


def holds(run: HasCheckpoints, step: int, weights_sha256: str) -> bool:
    """Whether the checkpoint of `step` exists and its manifest lists a file with this hash."""
    if not 0 <= step <= MOST_STEPS:  # an edited record; no folder has such a name
        return False
    try:
        files = read_manifest(run.checkpoints / step_name(step)).files
    except UnsoundError:
        return False
    return any(record.sha256 == weights_sha256 for record in files.values())


def _make_way(folder: Path) -> None:
    if not os.path.lexists(folder):
        return
    with suppress(UnsoundError):
        verify(folder)
        raise NcsnxError(f"{folder} already exists and is sound; nothing is overwritten")
    set_aside(folder)


def set_aside(folder: Path) -> Path:
    """Renames an unsound checkpoint, which then counts as none; returns its new path. Raises NcsnxError."""
    number = 1
    while os.path.lexists(aside := folder.with_name(f"{folder.name}.unsound-{number}")):
        number += 1
    with atomic.reporting(aside):
        folder.rename(aside)
        atomic.sync_folder(aside.parent)
    return aside


def _check(path: Path, record: FileRecord, size: int, sha256: str) -> None:
    if size != record.bytes:
        raise UnsoundError(f"{path} has {counted(size, 'byte')} instead of {record.bytes:,}")
    if sha256 != record.sha256:
        raise UnsoundError(f"{path} is damaged: its sha256 is not the one in the manifest")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FAULTS:
            raise UnsoundError(f"{path} {_FAULTS[error.errno]}") from error
        raise NcsnxError(f"cannot read {path}: {error.strerror}") from error
