"""The engine of measurements: their contract, and the code that carries them out.

A measurement has subjects: checkpoints, sampler settings, or a single one. It processes `count` images of each, batch
by batch. A batch depends on its subject and indices only, so any process can make a missing one, and ranks can share
them. Batches are saved as parts until their subject has a row. A new measurement is a subclass that defines how to make
a part, and how to compute a row from all parts. The engine handles locks, interruptions, progress and ranks.

With several ranks, rank 0 holds the lock, decides once which images of which subjects are missing, and makes the rows.
All ranks run the same code and make parts, each its own batches, and meet after each subject. So a result doesn't
depend on the number of ranks, and a rank that dies loses its unfinished batch only.
"""

import math
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from ncsnx.config.codec import flatten
from ncsnx.errors import DivergedError, Hint, NcsnxError
from ncsnx.images import to_uint8
from ncsnx.ranks.joining import require_same
from ncsnx.ranks.rank_group import held_by_first
from ncsnx.ranks.shared_batches import own_images, runs_of
from ncsnx.ranks.shared_disk import wait_for_file
from ncsnx.runs.folder import open_results
from ncsnx.runs.ledger import FEATURES, Row
from ncsnx.runs.manifest import UnsoundError
from ncsnx.runs.retention import remove_debris_in
from ncsnx.runs.writer_lock import folder_lock, require_lock
from ncsnx.samplers.state import ScaledScore, State
from ncsnx.sampling.drawing import Drawing
from ncsnx.sampling.model import Model
from ncsnx.spelling import A_DIR, argument
from ncsnx.storage.parts import Part, are_whole, assembled, done_indices, write_part
from ncsnx.work import Advance, Work, extrapolated

Subject = TypeVar("Subject")


class Measurement(ABC, Generic[Subject]):
    """Measures subjects by `count` images of each, under one protocol."""

    label: ClassVar[str]
    """Name in messages: 'the sweep'."""

    @abstractmethod
    def protocol(self) -> dict[str, Any]:
        """Everything but the subject that determines its numbers, as JSON."""

    @property
    @abstractmethod
    def place(self) -> Path:
        """The folder of all files, which may not exist yet."""

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

    @abstractmethod
    def name(self, subject: Subject) -> str:
        """The subject's name in messages."""

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

    @abstractmethod
    def is_done(self, subject: Subject) -> bool:
        """Whether a subject has a row."""

    @abstractmethod
    def row(self, subject: Subject, whole: Mapping[str, Tensor], work: Work) -> Row:
        """The row of a subject from the tensors of all its parts, (count, …) each.

        Raises NcsnxError: DivergedError for values that are useless.
        """

    @abstractmethod
    def add(self, subject: Subject, row: Row) -> None:
        """Saves the row of a subject durably. Raises NcsnxError."""

    def failed(self, subject: Subject, error: DivergedError) -> Row | None:
        """The row of a subject that diverged; None, the default, if it gets none."""
        return None

    def reload(self) -> None:
        """Reads results that another process saved in the meantime; does nothing by default. Raises NcsnxError."""


@contextmanager
def writing(job: Measurement[Subject], work: Work) -> Iterator[None]:
    """Holds the writer lock of the job's folder on rank 0, during the block of all ranks, and reloads its results.

    The folder is created if needed. Raises UsageError on all ranks if they don't measure the same, NcsnxError if
    another process holds the lock.
    """
    hint = Hint("share one cache folder among the machines", adds=argument("cache", A_DIR))
    facts = dict(flatten(job.protocol()))
    require_same(work.ranks, "would not measure the same", facts, hint, check_stop=work.check_stop)
    with held_by_first(work.ranks, _writing(job), work.check_stop):
        require_lock(job.place, work.ranks, work.check_stop)
        yield


@contextmanager
def _writing(job: Measurement[Subject]) -> Iterator[None]:
    place = open_results(job.place)
    with folder_lock(place, f"{job.label} {place}"):
        job.reload()
        remove_debris_in([place, place / FEATURES])
        yield


def missing(job: Measurement[Subject], subjects: Iterable[Subject]) -> list[Subject]:
    """The subjects still to be measured."""
    return [subject for subject in subjects if not job.is_done(subject)]


def measure_all(
    job: Measurement[Subject],
    subjects: Sequence[Subject],
    work: Work,
    advance: Advance,
    *,
    begun: Callable[[Subject], None] = lambda subject: None,
    added: Callable[[Subject, Row], None] = lambda subject, row: None,
) -> list[str]:
    """Measures subjects and saves each row as soon as it is done. Call it on all ranks, within `writing`.

    subjects: those of rank 0 count. begun, added: called for each subject; `added` on rank 0 only. Returns a line for
    each subject that can't be measured, on rank 0. Raises NcsnxError.
    """
    problems: list[str] = []

    def plan() -> list[tuple[Subject, list[range]]]:
        every = set(range(job.count))
        return [(one, runs_of(sorted(every - done_indices(parts_of(job, one), job.count)))) for one in subjects]

    for subject, left in work.ranks.first(plan, check_stop=work.check_stop):
        begun(subject)
        failure = _make_share(job, subject, left, work, advance)
        if not work.ranks.is_first:
            continue
        try:
            row = _row(job, subject, failure, work)
        except (UnsoundError, DivergedError) as error:
            problems.append(f"{job.name(subject)}: {error}")
            work.warning(f"left out: {problems[-1]}")
            continue
        job.add(subject, row)
        shutil.rmtree(parts_of(job, subject), ignore_errors=True)
        added(subject, row)
    return problems


def _row(job: Measurement[Subject], subject: Subject, failure: NcsnxError | None, work: Work) -> Row:
    """The row of a subject. failure: why its parts could not be made. Raises UnsoundError and DivergedError."""
    try:
        if failure is not None:
            raise failure
        parts = parts_of(job, subject)
        is_seen = partial(are_whole, parts, job.count)
        wait_for_file(parts, "all ranks", work.ranks, work.check_stop, is_seen=is_seen)
        with work.at_once():  # distances of 10,000 images take minutes
            return job.row(subject, assembled(parts, job.count), work)
    except DivergedError as error:
        if (row := job.failed(subject, error)) is None:
            raise
        return row


def _make_share(
    job: Measurement[Subject], subject: Subject, left: Sequence[range], work: Work, advance: Advance
) -> NcsnxError | None:
    """Makes this rank's share of the parts, and waits for the others.

    Returns the error of the first batch that failed on any rank, as a single rank would.
    """
    units, count = job.units(subject), sum(map(len, left))
    own = own_images(work.ranks, job.mark(subject), left, job.batch_size)
    advance(units * (job.count - count) // job.count, kept=True)
    made, failure = 0, None
    try:
        for part in job.parts(subject, own, work, extrapolated(advance, len(own), count)) if own else ():
            write_part(parts_of(job, subject), part)
            made += len(part.indices)
    except (UnsoundError, DivergedError) as error:
        failure = own[min(made, len(own) - 1)], error
    failures = [each for each in work.ranks.gather(lambda: failure, check_stop=work.check_stop) if each is not None]
    return min(failures, key=lambda each: each[0])[1] if failures else None


def parts_of(job: Measurement[Subject], subject: Subject) -> Path:
    """The folder of a subject's parts."""
    return job.place / ".parts" / job.mark(subject)


def drawn_pixels(
    drawing: Drawing, indices: Sequence[int], work: Work, advance: Advance, evaluate: ScaledScore | None = None
) -> Iterator[tuple[Tensor, Tensor, float]]:
    """Yields (indices of a batch (B,) int64, its pixels (B, C, H, W) uint8 on the CPU, evaluations per image).

    Image i is the one that `ncsnx sample` draws. advance: told of every sampler state. evaluate: as in
    `Drawing.batches`. Raises NcsnxError.
    """
    evaluations, window = 0.0, drawing.model.space.pictures

    def on_state(batch: Sequence[int], state: State) -> None:
        nonlocal evaluations
        evaluations = state.evaluations
        advance()

    for batch, images in drawing.batches(indices, evaluate=evaluate, check_stop=work.check_stop, on_state=on_state):
        yield torch.tensor(batch, dtype=torch.int64), to_uint8(window(images)).cpu(), evaluations


def mean_score(models: Sequence[Model]) -> ScaledScore:
    """The mean of several models, as the published code averages scores of checkpoints; of one model, its network."""
    if len(models) == 1:
        return models[0].network.scaled_score
    networks = [model.network for model in models]
    return lambda x, sigma, cond: torch.stack([one.scaled_score(x, sigma, cond) for one in networks]).mean(dim=0)
