"""The engine of measurements: their contract, and the code that carries them out.

A measurement has subjects: checkpoints, sampler settings, or a single one. It processes `count` images of each, batch
by batch. A batch depends on its subject and indices only, so any process can make a missing one, and ranks can share
them. Batches are saved as parts until their subject has a row. A new measurement is a subclass that defines the layout
of a part, how to make one, and how to compute a row from all parts. The engine handles locks, interruptions, progress
and ranks.

With several ranks, rank 0 holds the lock, decides once which images of which subjects are missing, and makes the rows.
All ranks make parts, each its own batches, one subject after the other and without waiting. So a result doesn't depend
on the number of ranks, and a rank that dies loses its unfinished batch only.
"""

import math
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from torch import Tensor

from ncsnx.config.codec import flatten
from ncsnx.errors import DivergedError, Hint, NcsnxError
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
from ncsnx.storage.parts import NewParts, Part, assembled, done_indices, write_part
from ncsnx.work import Advance, Work, ignore_progress

T = TypeVar("T")
Subject = TypeVar("Subject")
Plan = list[tuple[Subject, list[range]]]
"""Subjects to be measured, and of each the indices of the images that are missing."""
PartLayout = Mapping[str, Sequence[int | None]]
"""Shape of each tensor of a part, without the batch dimension; None stands for any length."""


class WorkInParts(ABC, Generic[Subject]):
    """Work on `count` images of each subject, batch by batch, under one protocol."""

    label: ClassVar[str]
    """Name in messages: 'the sweep'."""

    @abstractmethod
    def protocol(self) -> dict[str, Any]:
        """Everything but the subject that determines its numbers, as JSON."""

    @abstractmethod
    def caption(self) -> str:
        """The protocol in words, for messages and plots."""

    @property
    @abstractmethod
    def place(self) -> Path:
        """The folder of all files, which may not exist yet. Raises NcsnxError."""

    @property
    @abstractmethod
    def count(self) -> int:
        """Images per subject."""

    @property
    @abstractmethod
    def batch_size(self) -> int:
        """Images per batch."""

    @property
    def batches(self) -> int:
        """Batches per subject."""
        return math.ceil(self.count / self.batch_size)

    @property
    @abstractmethod
    def layout(self) -> PartLayout:
        """Tensors of a part."""

    @abstractmethod
    def mark(self, subject: Subject) -> str:
        """The name of the folder of a subject's parts, unique to the subject."""

    @abstractmethod
    def units(self, subject: Subject) -> int:
        """Units of progress of a subject."""

    @abstractmethod
    def parts(self, subject: Subject, indices: Sequence[int], work: Work, advance: Advance) -> Iterator[Part]:
        """Yields the parts of the images at `indices`, in batches of `batch_size`; the engine saves each at once.

        Calls `work.check_stop` between evaluations and reports progress to `advance`. Raises NcsnxError: UnsoundError
        for a subject that is damaged or was removed, DivergedError for NaN or infinity.
        """

    def reload(self) -> None:
        """Reads results that another process saved in the meantime; does nothing by default. Raises NcsnxError."""

    def has_extra_files(self, subject: Subject, indices: Iterable[int]) -> bool:
        """Whether the files beside the parts of these images exist; True by default, since there are none."""
        return True


class Measurement(WorkInParts[Subject]):
    """Work that gives a row for each subject."""

    @abstractmethod
    def is_done(self, subject: Subject) -> bool:
        """Whether a subject is finished."""

    @abstractmethod
    def row(self, subject: Subject, whole: Mapping[str, Tensor]) -> Row:
        """The row of a subject from the tensors of all its parts, (count, …) each. Raises NcsnxError."""

    @abstractmethod
    def add(self, subject: Subject, row: Row) -> None:
        """Saves the row of a subject durably. Raises NcsnxError."""

    def name(self, subject: Subject) -> str:
        """The subject's name in messages; by default its mark."""
        return self.mark(subject)

    def problem(self, row: Row) -> str | None:
        """Why a row is useless, so that its subject counts as diverged; None if it is fine."""
        return None

    def failed(self, subject: Subject, error: DivergedError) -> Row | None:
        """The row of a subject that diverged; None, the default, if it gets none."""
        return None


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
    """Removes parts of subjects that have a row. Call it within `writing`. Raises NcsnxError."""
    for subject in subjects:
        if measurement.is_done(subject):
            discard_parts(measurement, subject)


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
    plan = work.ranks.order([(subject, _missing_indices(measurement, subject)) for subject in subjects])
    for subject, left in plan:
        begun(subject)
        row, problem, failed = None, None, False
        try:
            _make_share(measurement, subject, left, work, advance)
            with work.at_once():  # distances of 10,000 images take minutes
                row = measurement.row(subject, whole_of(measurement, subject))
            problem = measurement.problem(row)
        except UnsoundError as error:
            problem = str(error)
        except DivergedError as error:
            row, failed = measurement.failed(subject, error), True
            problem = str(error) if row is None else None
        if row is None or problem is not None:
            problems.append(f"{measurement.name(subject)}: {problem}")
            work.warning(f"left out: {problems[-1]}")
            continue
        measurement.add(subject, row)
        if not failed:
            discard_parts(measurement, subject)
        added(subject, row)
    work.ranks.gather(None, work.check_stop)  # other ranks write nothing from here on
    discard_needless_parts(measurement, subjects)
    return problems


def make_parts(job: WorkInParts[Subject], subject: Subject, work: Work, advance: Advance) -> None:
    """Makes the missing parts of a subject; existing ones count as progress. Raises NcsnxError."""
    ((_, left),) = work.ranks.order([(subject, _missing_indices(job, subject))])
    _make_share(job, subject, left, work, advance)
    work.ranks.gather(None, work.check_stop)


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


def _missing_indices(job: WorkInParts[Subject], subject: Subject) -> list[range]:
    parts = parts_of(job, subject)
    done = done_indices(parts, job.count, partial(fits, job.layout))
    if not job.has_extra_files(subject, done):
        shutil.rmtree(parts, ignore_errors=True)
        done = set()
    return runs_of(index for index in range(job.count) if index not in done)


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


def discard_parts(job: WorkInParts[Subject], subject: Subject) -> None:
    """Removes the parts of a subject whose result is saved."""
    shutil.rmtree(parts_of(job, subject), ignore_errors=True)


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
