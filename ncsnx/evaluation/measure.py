"""The engine of measurements: their contract, and the code that carries them out.

A measurement has subjects: checkpoints, sampler settings, or a single one. It processes `count` images of each, batch
by batch. A batch depends on its subject and indices only, so any process can make a missing one, and ranks can share
them. Batches are saved as parts until their subject has a row, which is an entry of the run's ledger. A new measurement
is a subclass of `Measure` that defines how to make a part, and how to compute a row from all parts. The engine handles
locks, interruptions, progress and ranks.

With several ranks, rank 0 holds the lock of a subject, decides which of its images are missing, and makes the row. All
ranks run the same code and make parts, each its own batches, and meet after each subject. So a result doesn't
depend on the number of ranks, and a rank that dies loses its unfinished batch only.
"""

import math
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

import attrs
import torch
from torch import Tensor

from ncsnx.config.codec import digest, flatten
from ncsnx.errors import DivergedError, Hint, NcsnxError, UsageError
from ncsnx.evaluation.plots import plot_scores
from ncsnx.images import to_uint8
from ncsnx.model_spec import ModelSpec
from ncsnx.ranks.joining import require_same
from ncsnx.ranks.rank_group import held_by_first
from ncsnx.ranks.sharing import own_images, runs_of, wait_for_file
from ncsnx.runs.folder import Run
from ncsnx.runs.ledger import FEATURES, Entry, Ledger, MeasurementProtocol, Quantity, Row, Series, Subject, value
from ncsnx.runs.manifest import UnsoundError, checkpoints
from ncsnx.runs.names import step_name
from ncsnx.runs.retention import remove_debris_in
from ncsnx.runs.segments import versions
from ncsnx.runs.writer_lock import folder_lock, require_lock
from ncsnx.runtime import Runtime
from ncsnx.samplers.state import ScaledScore, State
from ncsnx.sampling.drawing import Drawing
from ncsnx.sampling.loading import model_of
from ncsnx.sampling.model import Model
from ncsnx.spelling import A_DIR, argument
from ncsnx.storage import atomic
from ncsnx.storage.batch_files import BatchFiles, Tensors
from ncsnx.storage.process import this_process
from ncsnx.work import Advance, Work, extrapolated


@attrs.frozen(eq=False, kw_only=True)
class Measure(ABC):
    """Measures subjects of one run, by `count` images of each, under one protocol."""

    tag: ClassVar[str]
    """The command: fid, compare, loss, likelihood or neighbors."""

    run: Run
    """The run, or the folder of this measurement alone."""
    spec: ModelSpec
    runtime: Runtime
    subjects: tuple[Subject, ...]
    """The checkpoints or samplers that are measured."""
    given: Model | None = None
    """A loaded model that is measured; None: checkpoints of the run."""
    note: str = ""
    """A remark for the record of each entry."""
    _began: dict[str, str] = attrs.field(factory=dict, init=False)
    """Digest of a subject → when this process began to measure it."""

    # -------------------------------------------------------------------------------------------- to be defined

    @property
    @abstractmethod
    def count(self) -> int:
        """Images per subject."""

    @property
    @abstractmethod
    def batch_size(self) -> int:
        """Images per batch."""

    @abstractmethod
    def units(self, subject: Subject) -> int:
        """Units of progress of a subject."""

    @abstractmethod
    def parts(self, subject: Subject, indices: Sequence[int], work: Work, advance: Advance) -> Iterator[Tensors]:
        """Yields the results for `batches_of(indices, batch_size)`, tensors (B, …); the engine saves each at once.

        Calls `work.check_stop` between evaluations and reports progress to `advance`. Raises NcsnxError: UnsoundError
        for a subject that is damaged or was removed, DivergedError for NaN or infinity.
        """

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """The facts that the numbers depend on, but for their subjects, as JSON."""

    @abstractmethod
    def words(self) -> dict[str, str]:
        """The facts in words."""

    @property
    @abstractmethod
    def kept_as(self) -> str:
        """Beginning of the name of the folder."""

    @property
    @abstractmethod
    def quantities(self) -> Sequence[Quantity]:
        """The columns, the score first."""

    @abstractmethod
    def measured(self, subject: Subject, whole: Mapping[str, Tensor], work: Work) -> Row:
        """The numbers of a subject, with a 'score' that ranks it if it has one; parameters and errors as in `row`."""

    @property
    def perfect(self) -> dict[str, Any] | None:
        """Expected score of a perfect model; by default unknown."""
        return None

    def failed(self, subject: Subject, error: DivergedError) -> Row | None:
        """The row of a subject that diverged; None, the default, if it gets none."""
        return None

    def caution(self) -> str | None:
        """A caution about comparing these numbers with others; None if there is none."""
        return None

    def notes(self) -> list[str]:
        """Closing messages on what the numbers mean; by default none."""
        return []

    def complete(self, work: Work) -> None:  # noqa: B027 (nothing to add is the default)
        """Adds numbers that entries lack and kept files give; by default none. Raises NcsnxError."""

    def draw(self, series: Series) -> None:
        """Draws a series into its folder; by default scores by step. Raises NcsnxError."""
        perfect = None if self.perfect is None else (self.perfect["score"], self.perfect["spread"])
        texts = {"metric": series.protocol.metric, "title": self.run.name, "caption": series.caption}
        plot_scores(self.place / "scores", series.rows, perfect=perfect, **texts)

    # ------------------------------------------------------------------------------------- protocol and ledger

    @cached_property
    def recorded(self) -> MeasurementProtocol:
        """The protocol, with its names and columns."""
        return MeasurementProtocol(
            measure=self.tag,
            facts=self.facts(),
            metric=self.quantities[0].title,
            label=self.kept_as,
            words=self.words(),
            columns=tuple(self.quantities),
            perfect_model=self.perfect,
        )

    @property
    def series(self) -> Series:
        """The series of the subjects, with the entries that it has. Raises NcsnxError."""
        return self.ledger.series_of(self.recorded, self.subjects[0])

    @cached_property
    def _empty(self) -> Series:
        return Series(run=self.run, protocol=self.recorded, subject=self.subjects[0])

    def protocol(self) -> dict[str, Any]:
        """Everything but the subject that determines its numbers, as JSON."""
        return self._empty.facts

    def caption(self) -> str:
        """The protocol in words."""
        return self._empty.caption

    @cached_property
    def place(self) -> Path:
        """The folder of all files, which may not exist yet."""
        return self._empty.folder

    @property
    def batches(self) -> int:
        """Batches per subject."""
        return math.ceil(self.count / self.batch_size)

    @cached_property
    def ledger(self) -> Ledger:
        """The numbers so far. Raises NcsnxError for a file that can't be read."""
        return Ledger.read(self.run)

    def entry(self, subject: Subject) -> Entry | None:
        """The numbers of a subject; None if it wasn't measured."""
        return self.ledger.find(self.recorded, subject)

    def entries(self, subjects: Sequence[Subject] = ()) -> list[Entry]:
        """The numbers of those subjects that were measured, by default of the job's."""
        return [entry for subject in subjects or self.subjects if (entry := self.entry(subject)) is not None]

    def reload(self) -> None:
        """Reads results that another process saved in the meantime. Raises NcsnxError."""
        self.ledger.reload()

    def begin(self, subject: Subject) -> None:
        """Notes that the subject's measurement begins."""
        self._began[subject.digest] = this_process()["started"]

    def is_done(self, subject: Subject) -> bool:
        """Whether a subject has a row."""
        return self.entry(subject) is not None

    def add(self, subject: Subject, row: Row) -> None:
        """Saves the row of a subject durably. Raises NcsnxError."""
        now = this_process()
        made = {**now, "started": self._began.get(subject.digest, now["started"]), "finished": now["started"]}
        made |= {"note": self.note, "runtime": self.runtime.facts(), "versions": versions()}
        self.ledger.add(self.recorded, subject, row, made)

    def name(self, subject: Subject) -> str:
        """The subject's name in messages."""
        return f"step {subject.step:,}"

    def mark(self, subject: Subject) -> str:
        """The name of the folder of a subject's parts, unique to the subject."""
        return f"{step_name(subject.step)}-{subject.digest[:8]}"

    def row(self, subject: Subject, whole: Mapping[str, Tensor], work: Work) -> Row:
        """The row of a subject from the tensors of all its parts, (count, …) each.

        Raises NcsnxError: DivergedError for values that are useless.
        """
        row = self.measured(subject, whole, work)
        if "score" in row and value(row, "score") is None:
            raise DivergedError(f"its {self.recorded.metric} is {row['score']:g}, which is out of range")
        return row

    def load(self, subject: Subject) -> list[Model]:
        """The models of a subject, with its sampler.

        Raises UnsoundError for a checkpoint that is damaged, removed or replaced.
        """
        sampler = subject.known_sampler or self.spec.sampler
        if self.given is not None:
            return [attrs.evolve(self.given, sampler=sampler)]
        steps = subject.members or (subject.step,)
        try:
            models = [model_of(self.run, self.run.checkpoint(step), self.runtime) for step in steps]
        except UsageError as error:
            if set(steps) <= set(checkpoints(self.run)):
                raise
            raise UnsoundError("it was removed in the meantime, perhaps by the retention of a training run") from error
        except UnsoundError as error:
            raise UnsoundError(error.message) from error  # its hint is for commands that take one checkpoint
        hashes = [model.checkpoint.weights_sha256 for model in models]
        if subject.weights_sha256 != (digest(hashes) if subject.members else hashes[0]):
            raise UnsoundError(f"the checkpoint of step {subject.step:,} was replaced in the meantime")
        return [attrs.evolve(model, sampler=sampler) for model in models]


@contextmanager
def writing(job: Measure, subject: Subject) -> Iterator[None]:
    """Holds the writer lock of a subject, so that other processes may measure others, and reloads the job's results.

    Folders are created if needed. Raises NcsnxError if another process holds the lock.
    """
    with folder_lock(atomic.make_folder(parts_of(job, subject).folder), f"{job.name(subject)} of {job.place}"):
        job.reload()
        remove_debris_in([job.place, parts_of(job, subject).folder])
        remove_debris_in([job.place / FEATURES], job.mark(subject))
        try:
            yield
        finally:
            if job.is_done(subject):  # nobody needs the lock any more
                shutil.rmtree(parts_of(job, subject).folder, ignore_errors=True)


def missing(job: Measure, subjects: Iterable[Subject]) -> list[Subject]:
    """The subjects still to be measured."""
    return [subject for subject in subjects if not job.is_done(subject)]


def measure_all(
    job: Measure,
    subjects: Sequence[Subject],
    work: Work,
    advance: Advance,
    *,
    begun: Callable[[Subject], None] = lambda subject: None,
    added: Callable[[Subject, Row], None] = lambda subject, row: None,
) -> list[str]:
    """Measures subjects and saves each row as soon as it is done. Call it on all ranks.

    subjects: those of rank 0 count. begun, added: called for each subject; `added` on rank 0 only. Returns a line for
    each subject that can't be measured, on rank 0. Raises UsageError on all ranks if they don't measure the same,
    NcsnxError if another process measures a subject.
    """
    hint = Hint("share one cache folder among the machines", adds=argument("cache", A_DIR))
    facts, problems = dict(flatten(job.protocol())), list[str]()
    require_same(work.ranks, "would not measure the same", facts, hint, check_stop=work.check_stop)
    for subject in work.ranks.first(lambda: subjects, check_stop=work.check_stop):
        with held_by_first(work.ranks, writing(job, subject), work.check_stop):
            left = work.ranks.first(partial(_left, job, subject), check_stop=work.check_stop)
            if left is None:
                advance(job.units(subject), kept=True)
                continue
            require_lock(parts_of(job, subject).folder, work.ranks, work.check_stop)
            job.begin(subject)
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
            added(subject, row)
    return problems


def _left(job: Measure, subject: Subject) -> list[range] | None:
    """The images of a subject still to be made; None if another process has measured it in the meantime."""
    if job.is_done(subject):
        return None
    parts_of(job, subject).prune(job.count)
    return runs_of(parts_of(job, subject).missing(job.count))


def _row(job: Measure, subject: Subject, failure: NcsnxError | None, work: Work) -> Row:
    """The row of a subject. failure: why its parts could not be made. Raises UnsoundError and DivergedError."""
    try:
        if failure is not None:
            raise failure
        parts = parts_of(job, subject)
        wait_for_file(
            parts.folder, "all ranks", work.ranks, work.check_stop, is_seen=lambda: not parts.missing(job.count)
        )
        with work.interruptible():  # distances of 10,000 images take minutes
            return job.row(subject, parts.assembled(job.count), work)
    except DivergedError as error:
        if (row := job.failed(subject, error)) is None:
            raise
        return row


def _make_share(
    job: Measure, subject: Subject, left: Sequence[range], work: Work, advance: Advance
) -> NcsnxError | None:
    """Makes this rank's share of the parts, and waits for the others.

    Returns the error of the first batch that failed on any rank, as a single rank would.
    """
    units, count = job.units(subject), sum(map(len, left))
    own = own_images(work.ranks, job.mark(subject), left, job.batch_size)
    advance(units * (job.count - count) // job.count, kept=True)
    made, failure = 0, None
    try:
        for tensors in job.parts(subject, own, work, extrapolated(advance, len(own), count)) if own else ():
            parts_of(job, subject).add(own[made], tensors)
            made += min(map(len, tensors.values()))
    except (UnsoundError, DivergedError) as error:
        failure = own[min(made, len(own) - 1)], error
    failures = [each for each in work.ranks.gather(lambda: failure, check_stop=work.check_stop) if each is not None]
    return min(failures, key=lambda each: each[0])[1] if failures else None


def parts_of(job: Measure, subject: Subject) -> BatchFiles:
    """The batches of a subject that are finished, until it has a row."""
    return BatchFiles(job.place / ".parts" / job.mark(subject))


def drawn_pixels(
    drawing: Drawing, indices: Sequence[int], work: Work, advance: Advance, evaluate: ScaledScore | None = None
) -> Iterator[tuple[Tensor, float]]:
    """Yields (pixels of a batch, (B, C, H, W) uint8 on the CPU, evaluations per image).

    Image i is the one that `ncsnx sample` draws. advance: told of every sampler state. evaluate: as in
    `Drawing.batches`. Raises NcsnxError.
    """
    evaluations, window = 0.0, drawing.model.space.pictures

    def on_state(batch: Sequence[int], state: State) -> None:
        nonlocal evaluations
        evaluations = state.evaluations
        advance()

    for _, images in drawing.batches(indices, evaluate=evaluate, check_stop=work.check_stop, on_state=on_state):
        yield to_uint8(window(images)).cpu(), evaluations


def mean_score(models: Sequence[Model]) -> ScaledScore:
    """The mean of several models, as the published code averages scores of checkpoints; of one model, its network."""
    if len(models) == 1:
        return models[0].network.scaled_score
    networks = [model.network for model in models]
    return lambda x, sigma, cond: torch.stack([one.scaled_score(x, sigma, cond) for one in networks]).mean(dim=0)
