"""Carries out measurements: only missing ones, under a writer lock, each part saved as soon as it is made."""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from torch import Tensor

from ncsnx.errors import DivergedError
from ncsnx.evaluation.engine.measurement import Measurement, PartLayout, Subject, WorkInParts
from ncsnx.runs.checkpoints.leftovers import remove_debris_in
from ncsnx.runs.checkpoints.manifest import UnsoundError
from ncsnx.runs.folder import open_results
from ncsnx.runs.score_files import FEATURES, Row
from ncsnx.runs.writer_lock import folder_lock
from ncsnx.storage.parts import PartRows, assembled, done_indices, write_part
from ncsnx.storage.reading import refuse_links
from ncsnx.work import Advance, Work


@contextmanager
def writing(job: WorkInParts[Subject]) -> Iterator[None]:
    """Holds the writer lock of the job's folder, which is created if needed, and reloads its results.

    Raises NcsnxError if another process holds the lock.
    """
    place = open_results(job.place.parent, job.place)
    with folder_lock(place, f"{job.label} {place}"):
        job.reload()
        remove_debris_in([place, place / FEATURES])
        yield


def discard_needless_parts(measurement: Measurement[Subject], subjects: Iterable[Subject]) -> None:
    """Removes parts that a kill left behind after their row was saved. Call it within `writing`. Raises NcsnxError."""
    for subject in subjects:
        if measurement.is_done(subject):
            shutil.rmtree(parts_of(measurement, subject), ignore_errors=True)


def missing(measurement: Measurement[Subject], subjects: Iterable[Subject]) -> list[Subject]:
    """The subjects still to be measured."""
    return [subject for subject in subjects if not measurement.is_done(subject)]


def measure_all(
    measurement: Measurement[Subject],
    subjects: Sequence[Subject],
    work: Work,
    advance: Advance,
    *,
    begun: Callable[[Subject], None] = lambda subject: None,
    added: Callable[[Subject, Row], None] = lambda subject, row: None,
) -> list[str]:
    """Measures subjects and saves each row as soon as it is done. Call it within `writing`.

    begun, added: called for each subject. Returns a line for each subject that can't be measured. Raises NcsnxError.
    """
    problems: list[str] = []
    for subject in subjects:
        begun(subject)
        try:
            row = measure_subject(measurement, subject, work, advance)
        except (UnsoundError, DivergedError) as error:
            problems.append(f"{measurement.name(subject)}: {error}")
            work.warning(f"left out: {problems[-1]}")
            continue
        measurement.add(subject, row)
        discard_parts(measurement, subject)
        added(subject, row)
    return problems


def measure_subject(measurement: Measurement[Subject], subject: Subject, work: Work, advance: Advance) -> Row:
    """The row of a subject. Resumes after the last finished batch; the parts stay until `discard_parts`."""
    try:
        make_parts(measurement, subject, work, advance)
    except DivergedError as error:
        row = measurement.failed(subject, error)
        if row is None:
            raise
        return row
    with work.at_once():  # distances of 10,000 images take minutes
        row = measurement.row(subject, whole_of(measurement, subject))
    if (problem := measurement.problem(row)) is not None:
        raise DivergedError(problem)
    return row


def make_parts(job: WorkInParts[Subject], subject: Subject, work: Work, advance: Advance) -> None:
    """Makes the missing parts of a subject; existing ones count as progress. Raises NcsnxError."""
    parts, count = parts_of(job, subject), job.count
    done = done_indices(parts, count, partial(fits, job.layout))
    if not job.has_extra_files(parts, done):
        shutil.rmtree(parts, ignore_errors=True)
        done = set()
    advance(job.units(subject) * len(done) // count, kept=True)
    left = [index for index in range(count) if index not in done]
    for part in job.parts(subject, left, work, advance):
        write_part(parts, part)


def whole_of(job: WorkInParts[Subject], subject: Subject) -> dict[str, Tensor]:
    """The tensors of all parts of a subject, (count, …) each. Raises NcsnxError if parts are missing."""
    return assembled(parts_of(job, subject), job.count)


def rows_of(job: WorkInParts[Subject], subject: Subject, name: str) -> PartRows:
    """One tensor of all parts of a subject, read as it is needed. Raises NcsnxError if parts are missing."""
    return PartRows.of(parts_of(job, subject), job.count, name)


def discard_parts(job: WorkInParts[Subject], subject: Subject) -> None:
    """Removes the parts of a subject whose row is saved. Raises NcsnxError."""
    parts = parts_of(job, subject)
    job.finish(subject, parts)
    shutil.rmtree(parts, ignore_errors=True)


def parts_of(job: WorkInParts[Subject], subject: Subject) -> Path:
    """The folder of a subject's parts. Raises NcsnxError if it is a link."""
    parts = job.place / ".parts" / job.mark(subject)
    refuse_links(parts.parent, parts)
    return parts


def fits(layout: PartLayout, indices: Sequence[int], shapes: Mapping[str, Sequence[int]]) -> bool:
    """Whether tensor shapes match a layout, with one image per index."""
    return shapes.keys() == layout.keys() and all(
        len(shape) == 1 + len(layout[name])
        and shape[0] == len(indices)
        and all(wanted in (None, found) for wanted, found in zip(layout[name], shape[1:], strict=True))
        for name, shape in shapes.items()
    )
