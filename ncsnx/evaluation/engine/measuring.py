"""Carries out measurements: only missing ones, under a writer lock, each part saved as soon as it is made.

With several ranks, rank 0 holds the lock, decides once which images of which subjects are missing, and makes the rows.
All ranks make parts, each its own batches, one subject after the other and without waiting. So a result doesn't depend
on the number of ranks, and a rank that dies loses its unfinished batch only.
"""

import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from ncsnx.config.codec import flatten
from ncsnx.errors import DivergedError, Hint, NcsnxError
from ncsnx.evaluation.engine.measurement import Measurement, PartLayout, Subject, WorkInParts
from ncsnx.ranks.joining import require_same
from ncsnx.ranks.rank_group import RankGroup
from ncsnx.ranks.shared_batches import SharedBatches, runs_of
from ncsnx.ranks.shared_disk import wait_for_file
from ncsnx.runs.folder import open_results
from ncsnx.runs.manifest import UnsoundError
from ncsnx.runs.retention import remove_debris_in
from ncsnx.runs.score_files import FEATURES, Row
from ncsnx.runs.writer_lock import folder_lock, require_lock
from ncsnx.spelling import A_DIR, argument
from ncsnx.storage.parts import NewParts, PartRows, assembled, done_indices, write_part
from ncsnx.work import Advance, Work, ignore_progress

T = TypeVar("T")
Plan = list[tuple[Subject, list[range]]]
"""Subjects to be measured, and of each the indices of the images that are missing."""


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
    failed: list[Subject] = []
    with _planned(measurement, subjects, work) as plan:
        for subject, left in plan:
            begun(subject)
            try:
                row, is_whole = _measure(measurement, subject, left, work, advance)
            except (UnsoundError, DivergedError) as error:
                problems.append(f"{measurement.name(subject)}: {error}")
                work.warning(f"left out: {problems[-1]}")
                continue
            measurement.add(subject, row)
            if is_whole:
                discard_parts(measurement, subject)
            else:
                failed.append(subject)  # another rank may still be writing a part of it
            added(subject, row)
    for subject in failed:
        discard_parts(measurement, subject)
    return problems


def make_parts(job: WorkInParts[Subject], subject: Subject, work: Work, advance: Advance) -> None:
    """Makes the missing parts of a subject; existing ones count as progress. Raises NcsnxError."""
    with _planned(job, [subject], work) as ((_, left),):
        _make_share(job, subject, left, work, advance)


def shared(job: WorkInParts[Subject], work: Work, lead: Callable[[], T]) -> T | None:
    """Runs `lead` on rank 0, while the other ranks make their share of the parts. Call it on all ranks.

    Returns None on other ranks. Raises UsageError if the ranks don't measure the same.
    """
    require_same_protocol(job, work)
    return work.ranks.lead(lead, partial(follow, job, work), work.check_stop)


def require_same_protocol(job: WorkInParts[Subject], work: Work) -> None:
    """Raises UsageError on all ranks if their protocols differ."""
    hint = Hint("share one cache folder among the machines", adds=argument("cache", A_DIR))
    facts = dict(flatten(job.protocol()))
    require_same(work.ranks, "would not measure the same", facts, hint, check_stop=work.check_stop)


def follow(job: WorkInParts[Subject], work: Work, plan: Plan[Subject]) -> None:
    """Makes this rank's share of the parts, on ranks other than 0. Raises NcsnxError."""
    require_lock(job.place, work.ranks, work.check_stop)
    for subject, left in plan:
        _make_share(job, subject, left, work, ignore_progress)
    work.ranks.gather(None, work.check_stop)


@contextmanager
def _planned(job: WorkInParts[Subject], subjects: Sequence[Subject], work: Work) -> Iterator[Plan[Subject]]:
    """Within the block the other ranks make their share of the parts of the subjects. Call it on rank 0."""
    yield work.ranks.order([(subject, _missing_indices(job, subject)) for subject in subjects])
    work.ranks.gather(None, work.check_stop)  # other ranks write nothing from here on


def _missing_indices(job: WorkInParts[Subject], subject: Subject) -> list[range]:
    parts = parts_of(job, subject)
    done = done_indices(parts, job.count, partial(fits, job.layout))
    if not job.has_extra_files(parts, done):
        shutil.rmtree(parts, ignore_errors=True)
        done = set()
    return runs_of(index for index in range(job.count) if index not in done)


def _measure(
    measurement: Measurement[Subject], subject: Subject, left: Sequence[range], work: Work, advance: Advance
) -> tuple[Row, bool]:
    """The row of a subject, and whether all of its parts were made. They stay until `discard_parts`."""
    try:
        _make_share(measurement, subject, left, work, advance)
    except DivergedError as error:
        row = measurement.failed(subject, error)
        if row is None:
            raise
        return row, False
    with work.at_once():  # distances of 10,000 images take minutes
        row = measurement.row(subject, whole_of(measurement, subject))
    if (problem := measurement.problem(row)) is not None:
        raise DivergedError(problem)
    return row, True


def _make_share(
    job: WorkInParts[Subject], subject: Subject, left: Sequence[range], work: Work, advance: Advance
) -> None:
    """Makes this rank's share of the parts; rank 0 waits for the others, and raises the error of the first batch that
    failed on any rank, as a single rank would."""
    parts, mark = parts_of(job, subject), job.mark(subject)
    batches = SharedBatches(ranks=work.ranks, mark=mark, left=left, size=job.batch_size)
    failures = _Failures(work.ranks, mark)
    units = job.units(subject)
    kept = units * (job.count - sum(map(len, left))) // job.count
    advance(kept, kept=True)
    awaited = batches.awaited(NewParts(parts).indices, units - kept, advance)
    own, made = batches.own, 0
    if own and own[0] <= failures.first:
        try:
            for part in job.parts(subject, own, work, awaited.advance):
                write_part(parts, part)
                made += len(part.indices)
                awaited.look()
                if made < len(own) and own[made] > failures.first:
                    break
        except (UnsoundError, DivergedError) as error:
            failures.add(own[min(made, len(own) - 1)], error)
    awaited.wait(work.check_stop, lambda: failures.first)
    if work.ranks.is_first:
        failures.require_none()


class _Failures:
    """Failures of a subject on all ranks, with the index of the first image of the batch that failed."""

    def __init__(self, ranks: RankGroup, mark: str) -> None:
        self._ranks, self._key = ranks, f"failed/{mark}"
        self._own: list[tuple[int, NcsnxError]] = []

    @property
    def first(self) -> float:
        """The lowest index; infinite if nothing has failed."""
        return min((index for index, _ in self._found()), default=math.inf)

    def add(self, index: int, error: NcsnxError) -> None:
        """Tells all ranks of a failure of this one."""
        self._own.append((index, error))
        self._ranks.post(f"{self._key}/{self._ranks.rank}", (index, error))
        self._ranks.post(self._key)

    def require_none(self) -> None:
        """Raises the error of the lowest index, if there is one."""
        if found := self._found():
            raise min(found, key=lambda one: one[0])[1]

    def _found(self) -> list[tuple[int, NcsnxError]]:
        if self._ranks.posted(self._key) is None:
            return self._own
        places = (f"{self._key}/{rank}" for rank in range(self._ranks.world) if rank != self._ranks.rank)
        return self._own + [found for place in places if (found := self._ranks.posted(place)) is not None]


def whole_of(job: WorkInParts[Subject], subject: Subject) -> dict[str, Tensor]:
    """The tensors of all parts of a subject, (count, …) each. Raises NcsnxError if parts are missing."""
    return assembled(parts_of(job, subject), job.count)


def wait_for_parts(job: WorkInParts[Subject], subject: Subject, work: Work) -> None:
    """Returns once this rank sees all parts of a subject, which rank 0 does already. Raises NcsnxError."""
    parts = parts_of(job, subject)
    new, seen = NewParts(parts), set[int]()

    def is_whole() -> bool:
        seen.update(new.indices())
        return len(seen) >= job.count

    wait_for_file(parts, "all ranks", work.ranks, work.check_stop, is_seen=is_whole)


def rows_of(job: WorkInParts[Subject], subject: Subject, name: str) -> PartRows:
    """One tensor of all parts of a subject, read as it is needed. Raises NcsnxError if parts are missing."""
    return PartRows.of(parts_of(job, subject), job.count, name)


def discard_parts(job: WorkInParts[Subject], subject: Subject) -> None:
    """Removes the parts of a subject whose row is saved. Raises NcsnxError."""
    parts = parts_of(job, subject)
    job.finish(subject, parts)
    shutil.rmtree(parts, ignore_errors=True)


def parts_of(job: WorkInParts[Subject], subject: Subject) -> Path:
    """The folder of a subject's parts."""
    return job.place / ".parts" / job.mark(subject)


def fits(layout: PartLayout, indices: Sequence[int], shapes: Mapping[str, Sequence[int]]) -> bool:
    """Whether tensor shapes match a layout, with one image per index."""
    return shapes.keys() == layout.keys() and all(
        len(shape) == 1 + len(layout[name])
        and shape[0] == len(indices)
        and all(wanted in (None, found) for wanted, found in zip(layout[name], shape[1:], strict=True))
        for name, shape in shapes.items()
    )
