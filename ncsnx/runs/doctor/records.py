"""Examines a run's records, the other entries of its folder, and what lies beside it in the runs folder."""

import json
import os
from functools import partial
from pathlib import Path
from shlex import quote

from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted
from ncsnx.runs.checkpoints.leftovers import BEGINNING, remove_leftover
from ncsnx.runs.doctor.artifacts import is_exported
from ncsnx.runs.doctor.examined import Examination
from ncsnx.runs.doctor.remedies import is_long_gone
from ncsnx.runs.folder import Run
from ncsnx.runs.git_patches import is_patch_name, is_sound_patch
from ncsnx.runs.metrics_log import MetricsLog
from ncsnx.runs.origins import read_origins
from ncsnx.runs.records.tracker_records import CHOICE, TrackerChoice, TrackerNotes
from ncsnx.runs.segments import read_segments
from ncsnx.runs.writer_lock import HOLDER, LOCK
from ncsnx.spelling import argument
from ncsnx.storage import atomic, reading
from ncsnx.storage.documents.document import DOCUMENTS
from ncsnx.storage.documents.document_files import read_document

_FROM_BACKUP = "restore it from a backup"


def examine_records(found: Examination) -> None:
    """Examines configuration, origins, segments and metrics."""
    run = found.run
    with found.reading(run.config_path, "damaged", f"{_FROM_BACKUP}; without it the run cannot be used"):
        run.experiment()
        run.data_fingerprint()
    _examine_origins(found, run.origins_path)
    with found.reading(run.segments_path, "damaged", f"{_FROM_BACKUP}, or fix that line"):
        if not read_segments(run) and found.steps():
            found.add("missing", run.segments_path, "is missing; it records the history of the run", _FROM_BACKUP)
    with found.reading(run.metrics_path, "damaged", f"{_FROM_BACKUP}, or fix that line; training refuses it"):
        _examine_metrics(found)
    _examine_patches(found)
    _examine_trackers(found)
    for path in (run.segments_path, run.metrics_path):
        _examine_end(found, path)
    for path in (run.log_path, run.source_path, run.report_path):
        if path.is_symlink() or (path.exists() and not path.is_file()):
            found.add("link", path, "is not a regular file", "remove it")


def examine_places(found: Examination) -> None:
    """Finds entries of the run's folder that don't belong there."""
    run = found.run
    known = {
        path.name: kind
        for kind, paths in (
            ("file", (run.config_path, run.origins_path, run.source_path, run.segments_path, run.metrics_path)),
            ("file", (run.log_path, run.report_path, run.path / LOCK, run.path / HOLDER)),
            ("folder", (run.rank_logs, run.patches, run.tensorboard, run.checkpoints, run.snapshots, run.samples)),
            ("folder", (run.unsound, run.fid, run.loss, run.likelihood, run.compare, run.neighbors, run.trackers)),
        )
        for path in paths
    }
    for entry in found.entries(run.path):
        if atomic.is_temporary(entry.name):
            found.add_leftover(entry.path)
        elif entry.name in known:
            if entry.kind != known[entry.name] and entry.kind != "link":
                kind = "special file" if entry.kind == "other" else entry.kind
                found.add("damaged", entry.path, f"is a {kind} instead of a {known[entry.name]}", "move it away")
            elif entry.kind == "link" and known[entry.name] == "folder":
                found.add(
                    "link", entry.path, "is a symbolic link, and those are not followed in a run", "remove the link"
                )
        elif not entry.name.startswith(".") and not is_exported(entry):
            found.add("unknown", entry.path, "is not part of a run", "nothing to do: ncsnx ignores it")
    for entry in found.entries(run.unsound):
        what = f"was moved aside by {argument('repair', True)}"
        found.add("set-aside", entry.path, what, "nothing to do: it is not read and may be deleted")


def examine_runs_folder(found: Examination) -> None:
    """Finds folders of runs that killed processes were creating beside the run."""
    try:
        beside = reading.entries(found.run.path.resolve().parent)
    except OSError:
        return  # the runs folder needn't be readable
    for entry in beside:
        if not atomic.is_temporary(entry.name) or entry.kind != "folder" or not _is_begun_run(entry.path):
            continue
        what = "is an incomplete run whose process was killed"
        if not is_long_gone(entry.path):
            found.add("begun", entry.path, f"{what}, or is being created now", "repeat the command in ten minutes")
        elif reading.entries(entry.path):
            advice = f"{argument('repair', True)} removes it"
            found.add("begun", entry.path, what, advice, partial(remove_leftover, entry.path))
        else:
            found.add("begun", entry.path, what, f"remove the empty folder: rmdir {quote(str(entry.path))}")


def _is_begun_run(folder: Path) -> bool:
    """Whether the folder holds only files of a new run, or nothing; other programs have hidden folders too."""
    try:
        return all((atomic.whole_name(entry.name) or entry.name) in BEGINNING for entry in reading.entries(folder))
    except OSError:
        return False


def _examine_origins(found: Examination, path: Path) -> None:
    why = "(only `ncsnx show --origins` reads it)"
    if not os.path.lexists(path):
        found.add("missing", path, "is missing", f"{_FROM_BACKUP} {why}")
    with found.reading(path, "damaged", f"{_FROM_BACKUP}, or remove it {why}"):
        read_origins(path)


def _examine_patches(found: Examination) -> None:
    """Compares each recorded patch with its hash, which is its name."""
    run = found.run
    try:
        named = {segment.git.patch for segment in read_segments(run) if segment.git is not None and segment.git.patch}
    except NcsnxError:
        named = set()  # reported already
    there = {entry.name: entry for entry in found.entries(run.patches)}
    for name in sorted(named - there.keys()):
        found.add("missing", run.patches / name, "is missing; a start of the run records it", _FROM_BACKUP)
    for name, entry in there.items():
        if atomic.is_temporary(name):
            found.add_leftover(entry.path)
        elif not is_patch_name(name):
            found.add("unknown", entry.path, "is not a recorded patch", "nothing to do: ncsnx ignores it")
        elif not is_sound_patch(entry.path):
            what = "is damaged or unreadable: its sha256 is not its name"
            found.add("damaged", entry.path, what, f"{_FROM_BACKUP}; the run can be used without it")


def _examine_trackers(found: Examination) -> None:
    """Examines the choice of trackers and their notes; logs may hold anything."""
    for entry in found.entries(found.run.trackers):
        if atomic.is_temporary(entry.name):
            found.add_leftover(entry.path)
        elif entry.path.suffix == ".json":
            kind = TrackerChoice if entry.name == CHOICE else TrackerNotes
            with found.reading(entry.path, "damaged", f"{DOCUMENTS[kind].advice}; training continues without it"):
                read_document(entry.path, kind)
        elif entry.path.suffix != ".log" and not entry.name.startswith("."):
            found.add("unknown", entry.path, "is not a tracker's file", "nothing to do: ncsnx ignores it")


def _examine_metrics(found: Examination) -> None:
    run = found.run
    records = MetricsLog(run).read()
    bad = next((record for record in records if type(record.get("step")) is not int), None)
    if bad is not None:
        raise NcsnxError(f"{run.metrics_path}: expected a whole number under step in {json.dumps(bad):.100}")
    steps = found.steps()
    last = max(steps, default=0)
    beyond = sum(record["step"] > last for record in records)
    if beyond and steps and found.writer is None:
        what = f"has {counted(beyond, 'record')} after the last checkpoint, of step {last:,}"
        found.add("beyond", run.metrics_path, what, "nothing to do: training records them again when it resumes")
    if not records and steps and _was_trained(run):
        found.add("missing", run.metrics_path, "is missing or empty", _FROM_BACKUP)


def _examine_end(found: Examination, path: Path) -> None:
    """Notes a last line without its newline, which a killed process left."""
    try:
        content = reading.read_bytes(path, reading.RECORDS_LIMIT)
    except OSError:
        return  # reported already
    if content and not content.endswith(b"\n") and found.writer is None:
        found.add("unfinished", path, "ends in half a line", "nothing to do: it is ignored, and training removes it")


def _was_trained(run: Run) -> bool:
    """Whether the run was trained, not only imported; an imported run has no metrics and no data fingerprint."""
    try:
        return run.data_fingerprint() is not None
    except NcsnxError:  # reported already
        return False
