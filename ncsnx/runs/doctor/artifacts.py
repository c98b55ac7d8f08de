"""Examines what was made from a run's checkpoints: grids, samples, scores, exported models."""

import struct
import zlib
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from ncsnx.config.strict.complaints import StructureError
from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted
from ncsnx.runs.checkpoints.manifest import holds
from ncsnx.runs.checkpoints.ranges import in_words
from ncsnx.runs.checkpoints.weight_sizes import size_problem
from ncsnx.runs.doctor.examined import Examination
from ncsnx.runs.doctor.remedies import remove_leftover_of
from ncsnx.runs.exported import CONFIG, MODEL, Export, is_export
from ncsnx.runs.fast_sampler import FAST_FILE, TRIALS, read_fast
from ncsnx.runs.names import step_of
from ncsnx.runs.records.comparison_record import ComparisonRecord
from ncsnx.runs.records.neighbor_record import FILE_LIMIT, NeighborRecord
from ncsnx.runs.records.sample_record import PROTOCOL_FILE, SAMPLES_FILE, TASK_FILE, SampleRecord
from ncsnx.runs.records.trial_record import TrialRecord
from ncsnx.runs.score_files import FEATURES, MOST_FEATURES_BYTES, RESULTS, SCORES, TABLE_OF_IMAGES, ScoreFile, kept_file
from ncsnx.runs.writer_lock import writer_of
from ncsnx.spelling import argument
from ncsnx.storage import atomic, reading
from ncsnx.storage.documents.document import document_of
from ncsnx.storage.documents.document_files import read_document
from ncsnx.storage.json_lines import read_records

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PICTURE_LIMIT = 2**28
_LEFT_ALONE = "nothing to do: ncsnx ignores it"


def examine_snapshots(found: Examination) -> None:
    """Examines the sample grids drawn during training."""
    there = found.steps()
    without = []
    for entry in found.entries(found.run.snapshots):
        step = step_of(entry.name.removesuffix(".png")) if entry.name.endswith(".png") else None
        if atomic.is_temporary(entry.name):
            found.add_leftover(entry.path)
        elif step is None:
            if not entry.name.startswith("."):
                found.add("unknown", entry.path, "is not a grid of samples", _LEFT_ALONE)
        else:
            if (problem := _picture_problem(entry.path)) is not None:
                advice = "remove it; `ncsnx train` redraws the last one, `ncsnx sample` any other"
                found.add("damaged", entry.path, problem, advice)
            if step not in there:
                without.append(step)
    if without:
        what = f"has grids of steps without a checkpoint: {in_words(sorted(without))}"
        found.add("gone", found.run.snapshots, what, "nothing to do: they may be deleted")


def examine_samples(found: Examination) -> None:
    """Examines the folders that `ncsnx sample` made in the run."""
    for entry in found.entries(found.run.samples):
        if entry.kind == "folder":
            _examine_sampling(found, entry.path)
        elif not entry.name.startswith("."):
            found.add("unknown", entry.path, "is not a folder of samples", _LEFT_ALONE)


def examine_sweeps(found: Examination) -> None:
    """Examines the results of `ncsnx fid`, `ncsnx loss` and `ncsnx likelihood`."""
    run = found.run
    for place, command in ((run.fid, "fid"), (run.loss, "loss"), (run.likelihood, "likelihood")):
        for entry in found.entries(place):
            if entry.kind == "folder":
                _examine_sweep(found, entry.path, command)
            elif not entry.name.startswith("."):
                found.add("unknown", entry.path, "is not a sweep", _LEFT_ALONE)


def examine_comparisons(found: Examination) -> None:
    """Examines the results and the recommendation of `ncsnx compare`."""
    for entry in found.entries(found.run.compare):
        if entry.kind == "folder":
            inside = found.entries(entry.path)
            _examine_leftovers(found, entry.path, inside, "the same `ncsnx compare`")
            _examine_trials(found, entry.path / TRIALS)
            if any(one.name == RESULTS for one in inside):
                with found.reading(entry.path / RESULTS, "damaged", "repeat the same `ncsnx compare`"):
                    read_document(entry.path / RESULTS, ComparisonRecord, reading.RECORDS_LIMIT)
        elif entry.name == FAST_FILE:
            with found.reading(entry.path, "damaged", "remove it, then repeat `ncsnx compare`"):
                read_fast(found.run)
        elif not entry.name.startswith("."):
            found.add("unknown", entry.path, "is not a comparison", _LEFT_ALONE)


def examine_neighbors(found: Examination) -> None:
    """Examines the results of `ncsnx neighbors`."""
    again = "repeat the same `ncsnx neighbors`"
    for entry in found.entries(found.run.neighbors):
        if entry.kind != "folder":
            if not entry.name.startswith("."):
                found.add("unknown", entry.path, "is not a neighbour search", _LEFT_ALONE)
            continue
        inside = found.entries(entry.path)
        _examine_leftovers(found, entry.path, inside, "the same `ncsnx neighbors`")
        if not any(one.name == RESULTS for one in inside):
            found.add("unfinished", entry.path, "has no results yet", f"{again} to resume it")
            continue
        with found.reading(entry.path / RESULTS, "damaged", again):
            for name, sha256 in read_document(entry.path / RESULTS, NeighborRecord).files.items():
                if (problem := _hash_problem(found, entry.path / name, sha256, FILE_LIMIT)) is not None:
                    found.add("damaged", entry.path / name, problem, again)


def examine_exports(found: Examination) -> None:
    """Examines exported models in the run's folder."""
    for entry in found.entries(found.run.path):
        if not is_exported(entry):
            continue
        again = "export it again"
        with found.reading(entry.path / CONFIG, "damaged", again):
            config = Export(entry.path).config()
            model = entry.path / MODEL
            problem = size_problem(config.experiment, MODEL, config.model_bytes)
            problem = problem or _hash_problem(found, model, config.model_sha256, config.model_bytes)
            if problem is not None:
                found.add("damaged", model, problem, again)


def _examine_trials(found: Examination, path: Path) -> None:
    """Examines a file of trials. Invalid JSON stops a comparison; a trial of another version is measured again."""
    with found.reading(path, "damaged", "fix or remove that line"):
        others = []
        for line, record in enumerate(read_records(path), start=1):
            try:
                document_of(record, TrialRecord, f"line {line}")
            except StructureError as error:
                others.append(error.message)
        if others:
            what = f"has {counted(len(others), 'line')} that this ncsnx cannot read as a trial: {others[0]}"
            found.add("unknown", path, what, "nothing to do: `ncsnx compare` measures again")


def is_exported(entry: reading.Entry) -> bool:
    """Whether this is the folder of an exported model that is not half written."""
    return entry.kind == "folder" and not atomic.is_temporary(entry.name) and is_export(entry.path)


def _examine_sampling(found: Examination, folder: Path) -> None:
    again = f"repeat the same `ncsnx sample` with {argument('overwrite', True)}"
    own = found.entries(folder)
    inside = [*own, *(entry for place in ("images", "frames") for entry in found.entries(folder / place))]
    _examine_leftovers(found, folder, inside, "the same `ncsnx sample`")
    if not any(entry.name == PROTOCOL_FILE for entry in own):
        found.add("unknown", folder, f"has no {PROTOCOL_FILE}, so it holds no samples of ncsnx", _LEFT_ALONE)
        return
    with found.reading(folder / PROTOCOL_FILE, "damaged", again):
        record = read_document(folder / PROTOCOL_FILE, SampleRecord)
        if record.complete:
            _examine_images(found, folder, record, again)
        else:
            advice = "repeat the same `ncsnx sample` to resume it, or delete it"
            found.add("unfinished", folder, "holds samples that are incomplete: interrupted, or still running", advice)
        _examine_weights(found, folder, record.protocol)


def _examine_images(found: Examination, folder: Path, record: SampleRecord, again: str) -> None:
    samples = folder / SAMPLES_FILE
    if (problem := _hash_problem(found, samples, record.samples_sha256, _most_bytes(record.protocol))) is not None:
        found.add("damaged", samples, problem, again)
    match record.protocol:
        case {"n": int(count), "columns": int(columns)}:
            expected = count * columns
        case _:
            return
    there = sum(entry.kind == "file" and entry.name.endswith(".png") for entry in found.entries(folder / "images"))
    if there < expected:
        found.add("missing", folder / "images", f"holds {there:,} of {counted(expected, 'image')}", again)
    if (problem := _picture_problem(folder / "grid.png")) is not None:
        found.add("damaged", folder / "grid.png", problem, again)
    if any(entry.name == TASK_FILE for entry in found.entries(folder)):
        _examine_posterior(found, folder, _most_bytes(record.protocol))


def _examine_posterior(found: Examination, folder: Path, samples_bytes: int | None) -> None:
    # these import torch, which only a task needs
    from ncsnx.inverse.posterior_maps import POSTERIOR_FILE, QUANTILES
    from ncsnx.inverse.task_record import TaskRecord

    most = None if samples_bytes is None else (len(QUANTILES) + 2) * samples_bytes  # at most as many pictures as images
    again = "repeat the same `ncsnx restore`"
    with found.reading(folder / TASK_FILE, "damaged", again):
        record = read_document(folder / TASK_FILE, TaskRecord)
        if record.posterior_sha256 is not None:
            path = folder / POSTERIOR_FILE
            if (problem := _hash_problem(found, path, record.posterior_sha256, most)) is not None:
                found.add("damaged", path, problem, again)


def _examine_weights(found: Examination, folder: Path, protocol: dict[str, Any]) -> None:
    """Notes samples whose checkpoint no longer exists."""
    match protocol:
        case {"step": int(step), "weights_sha256": str(sha256)}:
            if not _holds(found, step, sha256):
                what = f"was drawn from the checkpoint of step {step:,}, whose weights no longer exist"
                found.add("gone", folder, what, "nothing to do: the samples do not need them")


def _examine_sweep(found: Examination, folder: Path, command: str) -> None:
    inside = found.entries(folder)
    kept = [entry for entry in inside if entry.name == FEATURES and entry.kind == "folder"]
    inside += [one for entry in kept for one in found.entries(entry.path)]
    _examine_leftovers(found, folder, inside, f"the same `ncsnx {command}`")
    if not any(entry.name == SCORES for entry in inside):
        found.add("unfinished", folder, "has no score yet", f"repeat the same `ncsnx {command}` to resume it")
        return
    with found.reading(folder / SCORES, "damaged", f"move it away, then repeat the same `ncsnx {command}`"):
        _examine_scores(found, ScoreFile.read(folder), command)


def _examine_scores(found: Examination, sweep: ScoreFile, command: str) -> None:
    folder = sweep.folder
    if writer_of(folder) is None:  # a writer may have written a table before its row
        _examine_tables(found, sweep, command)
    gone = [row["step"] for row in sweep.rows if not _holds(found, row["step"], row["weights_sha256"])]
    if gone and sweep.protocol.get("ensemble", 1) == 1:
        what = f"has scores of weights that no longer exist, of steps {in_words(sorted(gone))}"
        best = argument("ckpt", "best")
        found.add("gone", folder, what, f"nothing to do: they are kept for the plot, and {best} ignores them")


def _examine_tables(found: Examination, sweep: ScoreFile, command: str) -> None:
    """Examines the per-image values and the features that a sweep keeps."""
    for row in sweep.rows:
        if (record := kept_file(row, TABLE_OF_IMAGES)) is not None:
            table = sweep.folder / record.name
            if (problem := _hash_problem(found, table, record.sha256, reading.RECORDS_LIMIT)) is not None:
                found.add("damaged", table, problem, f"repeat the same `ncsnx {command}`: it measures this step again")
        if (record := kept_file(row, FEATURES)) is not None:
            path = sweep.folder / FEATURES / record.name
            problem = _hash_problem(found, path, record.sha256, MOST_FEATURES_BYTES)
            # a missing file was removed to make room; a folder that is a link is skipped
            if problem is not None and not path.parent.is_symlink() and path.exists():
                found.add("damaged", path, problem, "remove it; the scores do not need it")


def _examine_leftovers(found: Examination, place: Path, inside: Iterable[reading.Entry], command: str) -> None:
    """Finds what killed writers left in a folder of samples or a sweep, unless it is being written now."""
    if (writer := writer_of(place)) is not None:
        found.add("busy", place, f"is being written by {writer}", "repeat the command when that has ended")
        return
    for entry in inside:
        if atomic.is_temporary(entry.name):
            remedy = partial(remove_leftover_of, place, entry.path)
            what = "was left half written by a killed process"
            found.add("leftover", entry.path, what, f"{command} or {argument('repair', True)} removes it", remedy)


def _holds(found: Examination, step: int, sha256: str) -> bool:
    try:
        return holds(found.run, step, sha256)
    except NcsnxError:
        return True  # unknown; the checkpoint's problem is a separate finding


def _most_bytes(protocol: dict[str, Any]) -> int | None:
    """Largest size of the samples file under this protocol; None if the protocol doesn't tell."""
    match protocol:
        case {"n": int(count), "columns": int(columns), "shape": [int(channels), int(height), int(width)]}:
            return count * columns * channels * height * width * 4 + reading.HEADER_LIMIT
    return None


def _hash_problem(found: Examination, path: Path, expected: object, most_bytes: object) -> str | None:
    """The problem with a file that should have this sha256 and at most this size, or None."""
    if type(most_bytes) is not int:
        return "cannot be verified: its expected size is not recorded"
    try:
        sha256 = reading.sha256_of(path, most_bytes, found.watch)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    found.files += 1
    return None if sha256 == expected else "is damaged: its sha256 is not the one that was recorded"


def _picture_problem(path: Path) -> str | None:
    """The problem with a PNG, by its own checksums, or None."""
    try:
        content = reading.read_bytes(path, _PICTURE_LIMIT)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    place, kind = len(_PNG_SIGNATURE), b""
    if not content.startswith(_PNG_SIGNATURE):
        return "is not a PNG"
    while place + 12 <= len(content) and kind != b"IEND":
        (length,) = struct.unpack_from(">I", content, place)
        kind = content[place + 4 : place + 8]
        end = place + 8 + length
        if content[end : end + 4] != struct.pack(">I", zlib.crc32(content[place + 4 : end])):
            return "is damaged: a checksum in it is wrong"
        place = end + 4
    return None if kind == b"IEND" else "is truncated"
