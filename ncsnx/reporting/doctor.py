"""Examines a run: reads every record, verifies every hash, and finds what killed processes left.

A table says what must open and which hashes it records. Nothing is changed.
"""

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

import attrs

from ncsnx import bounded_reads
from ncsnx.config.codec import identity
from ncsnx.config.converter import NewerVersionError
from ncsnx.errors import AdvisedError, NcsnxError
from ncsnx.exports.exported import CONFIG, MODEL, Export, is_export
from ncsnx.runs.folder import Run, read_origins
from ncsnx.runs.ledger import Ledger
from ncsnx.runs.manifest import STATE, UnsoundError, checkpoints, read_state, verify
from ncsnx.runs.metrics_log import MetricsLog
from ncsnx.runs.names import step_name, step_of
from ncsnx.runs.result_records import SampleRecord, TrackerNotes
from ncsnx.runs.retention import was_checkpoint
from ncsnx.runs.segments import read_segments, require_beginning
from ncsnx.runs.writer_lock import is_being_written
from ncsnx.spelling import argument
from ncsnx.storage import atomic
from ncsnx.storage.documents import read_document
from ncsnx.work import SILENT, Work

FindingKind = Literal["unsound", "damaged", "missing", "leftover", "untrainable"]
CREATION_LIMIT_S = 600.0
"""Age after which a half-written folder counts as abandoned; exports are written without the run's lock."""
_FROM_BACKUP = "restore it from a backup"


@attrs.frozen
class Finding:
    """A problem of a run."""

    kind: FindingKind
    path: Path
    what: str
    """The problem, in words that follow the path."""
    advice: str
    """Instructions, or that there is nothing to do."""


Verdict = tuple[int, UnsoundError | None]
"""A step, and the error of its checkpoint; None if all files are sound."""
Hashes = Iterable[tuple[Path, str]]
"""Files that a record names, with their sha256."""


@attrs.frozen
class _Record:
    """Files of one kind: where they are, how they are read, and what to do about damage."""

    glob: str
    read: Callable[[Run, Path], Hashes]
    """Reads a file; returns the hashes that it records. Raises NcsnxError for damage."""
    advice: str


def _opens(read: Callable[[Run, Path], object]) -> Callable[[Run, Path], Hashes]:
    """The reader of a record without hashes."""

    def read_it(run: Run, path: Path) -> Hashes:
        read(run, path)
        return ()

    return read_it


def _metrics(run: Run, path: Path) -> None:
    for number, record in enumerate(MetricsLog(run).read(), start=1):
        if type(record.get("step")) is not int:
            raise NcsnxError(f"{path}, line {number}: expected a whole number under step")


def _samples(run: Run, path: Path) -> Hashes:
    record = read_document(path, SampleRecord)
    return [(path.parent / name, sha256) for name, sha256 in record.samples.items()]


def _task(run: Run, path: Path) -> Hashes:
    from ncsnx.inverse.posterior.maps import POSTERIOR_FILE  # these import torch, which only a task needs
    from ncsnx.inverse.task_record import TaskRecord

    sha256 = read_document(path, TaskRecord).posterior_sha256
    return [] if sha256 is None else [(path.parent / POSTERIOR_FILE, sha256)]


def _export(run: Run, path: Path) -> Hashes:
    return [(path.parent / MODEL, Export(path.parent).config().model_sha256)] if is_export(path.parent) else []


_FIX_LINE = f"{_FROM_BACKUP}, or fix that line"
_RECORDS = (
    _Record("config.json", _opens(lambda run, path: run.declared()), f"{_FROM_BACKUP}; the run needs it"),
    _Record("origins.json", _opens(lambda run, path: read_origins(path)), f"{_FROM_BACKUP}, or remove it"),
    _Record("segments.jsonl", _opens(lambda run, path: read_segments(run)), _FIX_LINE),
    _Record("metrics.jsonl", _opens(_metrics), f"{_FIX_LINE}; training refuses it"),
    _Record(
        "trackers/*.json",
        _opens(lambda run, path: read_document(path, TrackerNotes)),
        "remove it to begin a new record",
    ),
    _Record(
        "measurements.jsonl", _opens(lambda run, path: Ledger.read(run).require_sound()), "fix or remove that line"
    ),
    _Record("samples/*/protocol.json", _samples, f"repeat its `ncsnx sample` with {argument('overwrite', True)}"),
    _Record("samples/*/task.json", _task, "repeat the same `ncsnx restore`"),
    _Record(f"*/{CONFIG}", _export, "export it again"),
)
"""All records of a run but the checkpoints' own."""
_REQUIRED = ("config.json", "origins.json", "segments.jsonl")


@attrs.define
class Examination:
    """An examination of a run: its findings, and counts of what was read."""

    run: Run
    work: Work
    writer: str | None = None
    """The process that is writing the run now; half-written files may be its own."""
    findings: list[Finding] = attrs.field(factory=list)
    checkpoints: int = 0
    files: int = 0
    """Number of files that were hashed."""
    bytes: int = 0

    @property
    def is_sound(self) -> bool:
        """Whether there are no problems."""
        return not self.findings

    def add(self, kind: FindingKind, path: Path, what: str, advice: str) -> None:
        """Adds a finding."""
        self.findings.append(Finding(kind, path, what, advice))

    def watch(self, count: int) -> None:
        """Counts hashed bytes; raises Stopped after a stop request."""
        self.bytes += count
        self.work.check_stop()


def examine(run: Run, work: Work = SILENT, writer: str | None = None) -> Examination:
    """Examines a run. writer: the process that is writing it now, if any. Raises Stopped."""
    examination = Examination(run, work, writer)
    _examine_records(examination)
    verdicts = _examine_checkpoints(examination)
    if writer is None:
        _examine_leftovers(examination)
        _examine_training(examination, verdicts)
    return examination


def _examine_records(examination: Examination) -> None:
    run = examination.run
    for record in _RECORDS:
        for path in sorted(run.path.glob(record.glob)):
            examination.work.check_stop()
            try:
                for file, sha256 in record.read(run, path):
                    _examine_hash(examination, file, sha256, record.advice)
            except NcsnxError as error:
                advice = error.advice if isinstance(error, NewerVersionError) else record.advice
                examination.add("damaged", path, _without_path(error, path), advice)
    for name in _REQUIRED:
        if not (run.path / name).exists():
            examination.add("missing", run.path / name, "is missing", _FROM_BACKUP)


def _examine_hash(examination: Examination, path: Path, sha256: str, advice: str) -> None:
    try:
        found = bounded_reads.sha256_of(path, examination.watch)
    except FileNotFoundError:
        examination.add("missing", path, "is missing", advice)
    except OSError as error:
        examination.add("damaged", path, f"cannot be read: {error.strerror or error}", advice)
    else:
        examination.files += 1
        if found != sha256:
            examination.add("damaged", path, "is damaged: its sha256 is not the one that was recorded", advice)


def _examine_checkpoints(examination: Examination) -> list[Verdict]:
    """Verifies all checkpoints, newest first; returns the verdicts on those that can be read."""
    run, verdicts = examination.run, list[Verdict]()
    try:
        expected, steps = identity(run.declared()), checkpoints(run)
    except NcsnxError:
        found = (step_of(path.name) for path in run.checkpoints.glob("step-*"))
        expected, steps = None, sorted(step for step in found if step is not None)
    for step in reversed(steps):
        folder = run.checkpoints / step_name(step)
        examination.checkpoints += 1
        try:
            manifest = verify(folder, examination.watch)
            state = read_state(folder, manifest)
        except UnsoundError as error:
            if examination.writer is not None and not folder.exists():
                continue  # the writer's retention has removed it
            verdicts.append((step, error))
            advice = f"{_FROM_BACKUP}, or move it away; ncsnx does not use it"
            examination.add("unsound", folder, _without_path(error, folder), advice)
        except NcsnxError as error:
            examination.add("damaged", folder, _without_path(error, folder), "fix that, then repeat the command")
        else:
            examination.files += len(manifest.files)
            verdicts.append((step, None))
            if expected not in (None, state.get("identity")):
                advice = f"move it away, or restore {run.config_path} if that is the wrong file"
                examination.add("damaged", folder / STATE, "belongs to another experiment", advice)
    return verdicts


def _examine_leftovers(examination: Examination) -> None:
    """Finds what killed processes left half written or half removed, where nobody writes now."""
    run = examination.run

    def unreadable(error: OSError) -> None:
        advice = "make it readable, then repeat the command"
        examination.add("damaged", Path(error.filename), f"cannot be read: {error.strerror}", advice)

    temporary = []
    for place, folders, files in os.walk(run.path, onerror=unreadable):
        temporary += [Path(place, name) for name in (*folders, *files) if atomic.is_temporary(name)]
        folders[:] = [name for name in folders if not atomic.is_temporary(name)]
    for path in sorted(temporary):
        within = [folder for folder in path.parents if folder.is_relative_to(run.path) and folder != run.path]
        is_young = path.is_dir() and not was_checkpoint(path) and _age_s(path) < CREATION_LIMIT_S
        if not (is_young or any(map(is_being_written, within))):
            what = "was left half written or half removed by a killed process"
            examination.add("leftover", path, what, "remove it")


def _examine_training(examination: Examination, verdicts: list[Verdict]) -> None:
    """Whether training can resume."""
    run = examination.run
    try:
        if all(error is not None for _, error in verdicts):
            require_beginning(run, [(step, str(error)) for step, error in verdicts])
    except NcsnxError as error:
        advice = "; ".join(f"{hint.label} {hint.adds}".strip() for hint in error.hints)
        examination.add("untrainable", run.path, f"cannot be trained further: {error.message}", advice)


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0  # just removed


def _without_path(error: NcsnxError, path: Path) -> str:
    """The message of an error without the path at its beginning."""
    text = error.message if isinstance(error, AdvisedError) else str(error)
    for beginning in (f"{path}: ", f"{path} ", f"{path}, ", f"{path}/"):
        text = text.removeprefix(beginning)
    return text
