"""The measuring commands: each measures subjects of one run, and adds their numbers to the run's ledger."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import attrs
from torch import Tensor

from ncsnx.config.codec import digest, identity
from ncsnx.config.converter import unstructure
from ncsnx.config.sampler import Sampler
from ncsnx.errors import DivergedError, NcsnxError, UsageError
from ncsnx.evaluation.engine import Measurement, measure_all, missing, writing
from ncsnx.evaluation.plots import plot_scores
from ncsnx.model_spec import ModelSpec
from ncsnx.quantities import counted
from ncsnx.runs.folder import Run, open_results
from ncsnx.runs.ledger import Entry, Ledger, Protocol, Quantity, Row, Series, Subject, best_of, value
from ncsnx.runs.manifest import UnsoundError, checkpoints, read_manifest
from ncsnx.runs.measurements import MeasuredRow, Measurements, shown_columns
from ncsnx.runs.names import part_file, step_name
from ncsnx.runs.segments import versions
from ncsnx.runtime import Runtime
from ncsnx.sampling.loading import model_of, weights_of
from ncsnx.sampling.model import Model
from ncsnx.spelling import parameter
from ncsnx.storage import atomic
from ncsnx.storage.process import this_process
from ncsnx.work import Advance, Work

Display = Callable[
    [Sequence[Subject]],
    AbstractContextManager[tuple[Advance, Callable[[Subject], None], Callable[[Subject, Row], None]]],
]
"""Shows the measuring of subjects within a block: told of progress, of each beginning and of each row."""


def choose(
    run: Run,
    steps: Sequence[int],
    work: Work,
    runtime: Runtime,
    sampler: Sampler | None = None,
    seed: int | None = None,
    *,
    ensemble: int = 1,
) -> tuple[tuple[Subject, ...], list[str]]:
    """The subjects of these steps, and a line for each damaged checkpoint. Warns of everything left out.

    Each checkpoint is one, or with `ensemble` = K > 1 the last K checkpoints up to each, whose scores the published
    code averages to evaluate runs without EMA. sampler, seed: of the images that are drawn, if any. Raises UsageError
    for an ensemble of a run with EMA, which the published code refuses too, and if no step has K checkpoints up to it.
    """
    declared = run.declared()
    weights, part = weights_of(declared)
    if ensemble > 1 and weights == "ema":
        raise UsageError(
            f"{parameter('ensemble')} is for runs without EMA, and the weights of {run.name!r} are already averaged; "
            "leave it out"
        )
    available = checkpoints(run)
    subjects, unsound, without = list[Subject](), list[str](), list[int]()
    for step in steps:
        members = tuple([other for other in available if other <= step][-ensemble:])
        if len(members) < ensemble:
            without.append(step)
            continue
        try:
            hashes = [_weights_sha256(run, part, member) for member in members]
        except UnsoundError as error:
            unsound.append(str(error))
            continue
        subject = Subject(
            step=step,
            weights_sha256=hashes[0] if ensemble == 1 else digest(hashes),
            weights=weights,
            precision=runtime.precision_for(declared),
            identity=identity(declared),
            members=members if ensemble > 1 else (),
            sampler=None if sampler is None else unstructure(sampler),
            seed=seed,
        )
        subjects.append(subject)
    if not subjects and unsound:
        raise NcsnxError(f"every checkpoint in the range is damaged: {'; '.join(unsound)}")
    if not subjects:
        raise UsageError(
            f"{parameter('ensemble')} {ensemble}: no step in the range has {counted(ensemble, 'checkpoint')} up to it; "
            f"run {run.name!r} has {len(available):,}"
        )
    if without:
        shown = ", ".join(f"{step:,}" for step in without)
        work.warning(f"left out, since fewer than {counted(ensemble, 'checkpoint')} lead up to them: {shown}")
    for line in unsound:
        work.warning(f"left out: {line}")
    return tuple(subjects), unsound


def _weights_sha256(run: Run, part: str, step: int) -> str:
    folder = run.checkpoints / step_name(step)
    name = part_file(part)
    manifest = read_manifest(folder)
    if name not in manifest.files:
        raise UnsoundError(f"{folder / name} is missing")
    return manifest.files[name].sha256


@attrs.frozen(eq=False, kw_only=True)
class Measure(Measurement[Subject]):
    """Measures subjects of one run under one protocol."""

    tag: ClassVar[str]
    """The command: fid, compare, loss, likelihood or neighbors."""
    label: ClassVar = "the sweep"

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

    def caution(self) -> str | None:
        """A caution about comparing these numbers with others; None if there is none."""
        return None

    def notes(self) -> list[str]:
        """Closing messages on what the numbers mean; by default none."""
        return []

    def complete(self, work: Work) -> None:
        """Adds numbers that entries lack and kept files give; by default none. Raises NcsnxError."""

    def draw(self, series: Series) -> None:
        """Draws a series into its folder; by default scores by step. Raises NcsnxError."""
        perfect = None if self.perfect is None else (self.perfect["score"], self.perfect["spread"])
        texts = {"metric": series.protocol.metric, "title": self.run.name, "caption": series.caption}
        plot_scores(self.place / "scores", series.rows, perfect=perfect, **texts)

    # ------------------------------------------------------------------------------------- protocol and ledger

    @cached_property
    def recorded(self) -> Protocol:
        """The protocol, with its names and columns."""
        return Protocol(
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
        return self._empty.facts

    def caption(self) -> str:
        """The protocol in words."""
        return self._empty.caption

    @cached_property
    def place(self) -> Path:
        return self._empty.folder

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
        self.ledger.reload()

    def begin(self, subject: Subject) -> None:
        """Notes that the subject's measurement begins."""
        self._began[subject.digest] = this_process()["started"]

    def is_done(self, subject: Subject) -> bool:
        return self.entry(subject) is not None

    def add(self, subject: Subject, row: Row) -> None:
        now = this_process()
        made = {**now, "started": self._began.get(subject.digest, now["started"]), "finished": now["started"]}
        made |= {"note": self.note, "runtime": self.runtime.facts(), "versions": versions()}
        self.ledger.add(self.recorded, subject, row, made)

    def name(self, subject: Subject) -> str:
        return f"step {subject.step:,}"

    def mark(self, subject: Subject) -> str:
        return f"{step_name(subject.step)}-{subject.digest[:8]}"

    def row(self, subject: Subject, whole: Mapping[str, Tensor], work: Work) -> Row:
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
        if len(models) == 1 and models[0].checkpoint.weights_sha256 != subject.weights_sha256:
            raise UnsoundError(f"the checkpoint of step {subject.step:,} was replaced in the meantime")
        return [attrs.evolve(model, sampler=sampler) for model in models]


def measure(
    job: Measure, subjects: Sequence[Subject], work: Work, noun: str, display: Display | None = None
) -> list[str]:
    """Measures the subjects that have no entry, on all ranks; returns a line for each that can't be measured.

    display: None for a bar of sampler steps.
    """

    @contextmanager
    def as_bar(left: Sequence[Subject]) -> Iterator[Any]:
        with work.progress("sampling", total=sum(map(job.units, left)), unit="sampler steps") as advance:
            yield advance, lambda subject: work.detail(job.name(subject)), lambda subject, row: None

    if work.ranks.is_first:
        job.ledger.restore(job.recorded)
        job.ledger.warn(work.warning)

    def missing_ones() -> list[Subject]:
        return work.ranks.first(lambda: missing(job, subjects), check_stop=work.check_stop)

    if not missing_ones():
        work.info(f"{counted(len(subjects), noun)} already measured")
        return []
    with writing(job, work):
        left = missing_ones()  # another process may have measured some in the meantime
        done = len(subjects) - len(left)
        work.info(counted(len(left), noun) + (f" ({done:,} more already measured)" if done else ""))
        with (display or as_bar)(left) as (advance, begun, added):

            def begin(subject: Subject) -> None:
                job.begin(subject)
                begun(subject)

            return measure_all(job, left, work, advance, begun=begin, added=added)


def measure_checkpoints(
    job: Measure, problems: Sequence[str], work: Work, requested: Sequence[str] | None = ()
) -> Measurements:
    """Measures checkpoints, and draws; on rank 0, where the others end.

    problems: a line for each checkpoint that was left out. requested: tags of the metrics shown in addition; None for
    all. Raises NcsnxError; entries made before are kept.
    """
    columns = shown_columns(job.recorded, requested)
    work.info(f"{job.run.path}: {job.caption()}")
    if (caution := job.caution()) is not None:
        work.warning(caution)

    @contextmanager
    def as_rows(left: Sequence[Subject]) -> Iterator[Any]:
        units, steps = sum(map(job.units, left)), list[int]()
        with work.rows(["step", *(one.title for one in columns)], total=len(left), units=units) as view:

            def shown(subject: Subject, row: Row) -> None:
                steps.append(subject.step)
                best = best_of(job.entries())
                cells = [f"{subject.step:,}", *(one.shown(row) for one in columns)]
                view.row(cells, steps.index(best.step) if best and best.step in steps else None)

            yield view.advance, lambda subject: view.begin(job.name(subject)), shown

    problems = [*problems, *measure(job, job.subjects, work, "checkpoint", as_rows)]
    work.ranks.end_others()
    try:
        job.complete(work)
        if job.entries():
            atomic.write_bytes(open_results(job.place) / "scores.csv", Measurements.of(job.series).csv())
            job.draw(job.series)
    except NcsnxError as error:
        work.warning(str(error))  # numbers are saved and shown; the next call completes and draws them
    drawn = ", ".join(sorted(path.name for path in job.place.glob("*.[ps][nv]g")))
    unscored = f"{counted(len(problems), 'checkpoint')} without a score: {'; '.join(problems)}"
    return Measurements.of(
        job.series,
        job.entries(),
        columns=columns,
        notes=[*job.notes(), f"scores: {job.place}/scores.csv; plots: {drawn or 'none'}"] if job.entries() else (),
        left_out=[unscored] if problems else (),
    )


def measure_model(
    model: Model,
    make: Callable[..., Measure],
    work: Work,
    seed: int | None = None,
    requested: Sequence[str] | None = (),
) -> Measurements:
    """The numbers of a loaded model, which has no ledger: they are returned and not kept.

    make: gives the measurement of a run, spec, runtime, subjects and a given model. seed: of the images that are drawn,
    if any. requested: as in `measure_checkpoints`. Raises NcsnxError.
    """
    saved, where, facts = model.origin.checkpoint, model.origin.where, model.facts
    subject = Subject(
        step=0 if saved is None else saved.step,
        weights_sha256=facts.get("weights_sha256", ""),
        weights=where if saved is None else saved.weights,
        precision=model.precision,
        identity=digest(facts) if saved is None else identity(saved.declared),
        sampler=None if seed is None else unstructure(model.sampler),
        seed=seed,
    )
    with TemporaryDirectory(prefix="ncsnx-") as folder:
        run = Run(Path(folder) / model.origin.name)
        run.path.mkdir()
        job = make(run=run, spec=model.spec(), runtime=model.runtime, subjects=(subject,), given=model)
        work.info(f"{where}: {job.caption()}")
        if problems := measure(job, job.subjects, work, "model"):
            raise NcsnxError("; ".join(problems))
        return Measurements.of(
            job.series,
            names=("model",),
            rows=[attrs.evolve(MeasuredRow.of(entry), names=(where,)) for entry in job.entries()],
            columns=shown_columns(job.recorded, requested),
            where=where,
            folder=None,
            notes=job.notes(),
        )
