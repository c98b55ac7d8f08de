"""The measuring commands: each measures subjects of one run, and adds their numbers to the run's ledger."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs

from ncsnx.config.codec import digest, identity
from ncsnx.config.converter import unstructure
from ncsnx.config.sampler import Sampler
from ncsnx.errors import NcsnxError, UsageError
from ncsnx.evaluation.measure import Measure, measure_all, missing
from ncsnx.quantities import counted
from ncsnx.runs.folder import Run
from ncsnx.runs.ledger import Row, Subject, lowest
from ncsnx.runs.manifest import UnsoundError, checkpoints, read_manifest
from ncsnx.runs.measurements import MeasuredRow, Measurements, shown_columns
from ncsnx.runs.names import part_file, step_name
from ncsnx.runtime import Runtime
from ncsnx.sampling.loading import weights_of
from ncsnx.sampling.model import Model
from ncsnx.spelling import parameter
from ncsnx.storage import atomic
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

    left = work.ranks.first(lambda: missing(job, subjects), check_stop=work.check_stop)
    if not left:
        work.info(f"{counted(len(subjects), noun)} already measured")
        return []
    done = len(subjects) - len(left)
    work.info(counted(len(left), noun) + (f" ({done:,} more already measured)" if done else ""))
    with (display or as_bar)(left) as (advance, begun, added):
        return measure_all(job, left, work, advance, begun=begun, added=added)


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
                best = lowest(job.entries(), lambda one: job.recorded.score_in(one.values))
                cells = [f"{subject.step:,}", *(one.shown(row) for one in columns)]
                view.row(cells, steps.index(best.step) if best and best.step in steps else None)

            yield view.advance, lambda subject: view.begin(job.name(subject)), shown

    problems = [*problems, *measure(job, job.subjects, work, "checkpoint", as_rows)]
    work.ranks.end_others()
    try:
        job.complete(work)
        job.reload()  # with the numbers of other processes
        if job.entries():
            atomic.write_bytes(atomic.make_folder(job.place) / "scores.csv", Measurements.of(job.series).csv())
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
