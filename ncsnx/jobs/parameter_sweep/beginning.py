"""Begins a parameter sweep: writes its record, or makes sure that the one that exists is of the same sweep."""

import shlex
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from ncsnx.config.checks import printable, shortened
from ncsnx.config.codec import identifying_paths, identity
from ncsnx.config.experiment import Experiment
from ncsnx.config.overrides import Override
from ncsnx.errors import Hint, NcsnxError, UsageError, require_between
from ncsnx.jobs.parameter_sweep.axes import Axis
from ncsnx.jobs.parameter_sweep.point_names import MOST_IN_SWEEP
from ncsnx.jobs.parameter_sweep.points import SweepPoint, points_of
from ncsnx.quantities import counted
from ncsnx.runs.folder import Run
from ncsnx.runs.names import check_file_name
from ncsnx.runs.parameter_sweeps import (
    MOST_SEEDS,
    ParameterSweepRecord,
    RecordedPoint,
    SweepBase,
    SweepFolder,
    SweptField,
)
from ncsnx.spelling import A_NAME, argument
from ncsnx.storage import atomic
from ncsnx.storage.documents import document_bytes
from ncsnx.storage.process import this_process

_FIRST_FREE = range(2, 100)


@attrs.frozen(kw_only=True)
class ParameterSweep:
    """A sweep as it is asked for, with its points."""

    name: str
    typed: str
    """The experiment as it was typed."""
    base: Experiment
    where: str
    axes: tuple[Axis, ...]
    fixed: tuple[Override, ...]
    zipped: bool
    seeds: int
    points: tuple[SweepPoint, ...]
    runs_folder: Path

    @classmethod
    def of(
        cls,
        *,
        name: str,
        typed: str,
        base: Experiment,
        origins: Mapping[str, str],
        where: str,
        axes: Sequence[Axis],
        fixed: Sequence[Override],
        zipped: bool,
        seeds: int,
        runs_folder: Path,
    ) -> "ParameterSweep":
        """The sweep, with its points checked. Raises UsageError; see `points_of` for the arguments."""
        again = Hint("give another name", adds=argument("sweep_name", A_NAME))
        check_file_name(name, "a sweep", again)
        if len(name) > MOST_IN_SWEEP:
            raise UsageError(
                f"{name!r} is too long for a sweep, whose runs have its name and their values: expected at most "
                f"{counted(MOST_IN_SWEEP, 'character')}",
                again,
            )
        require_between("seeds", seeds, 1, MOST_SEEDS)
        points = points_of(name, base, dict(origins), axes, fixed, zipped=zipped, seeds=seeds)
        return cls(
            name=name,
            typed=typed,
            base=base,
            where=where,
            axes=tuple(axes),
            fixed=tuple(fixed),
            zipped=zipped,
            seeds=seeds,
            points=tuple(points),
            runs_folder=runs_folder,
        )

    @property
    def folder(self) -> SweepFolder:
        """The folder of the record, the table and the plot."""
        return SweepFolder.named(self.runs_folder, self.name)

    def run_of(self, point: SweepPoint) -> Run:
        """The run of a point, which need not exist."""
        return Run(self.runs_folder / point.run)

    def record(self) -> ParameterSweepRecord:
        """The record of this sweep, made by this process."""
        return ParameterSweepRecord(
            name=self.name,
            base=SweepBase(typed=self.typed, name=self.base.name, where=self.where, identity=identity(self.base)),
            fixed={one.path: one.text for one in self.fixed},
            fields=tuple(SweptField(path=axis.path, values=axis.texts) for axis in self.axes),
            zipped=self.zipped,
            seeds=self.seeds,
            points=tuple(RecordedPoint(run=one.run, values=one.values, identity=one.identity) for one in self.points),
            made=this_process(),
        )


def begin_sweep(sweep: ParameterSweep) -> bool:
    """Writes the sweep's record, unless it exists; returns whether it is new.

    Several processes may begin one sweep at once. Raises UsageError if another sweep has the name, or a run of a point
    belongs to another experiment; then nothing is written.
    """
    if (found := require_free(sweep)) is not None:
        return False
    try:
        with atomic.new_folder(sweep.folder.path) as folder:
            path = sweep.folder.record_path
            atomic.write_new(folder / path.name, document_bytes(sweep.record()), shown=path)
    except NcsnxError:
        found = sweep.folder.record()  # another process was faster
        if found is None:
            raise
        _require_same_sweep(sweep, found)
        return False
    return True


def require_free(sweep: ParameterSweep) -> ParameterSweepRecord | None:
    """The sweep's record, None if it has not begun. Raises UsageError as `begin_sweep`, and writes nothing."""
    found = sweep.folder.record()
    if found is not None:
        _require_same_sweep(sweep, found)
    for point in sweep.points:
        run = sweep.run_of(point)
        if run.path.exists() and not _trains(run, point):
            raise UsageError(
                f"{run.path} exists and belongs to another experiment, so it cannot be a run of this sweep",
                Hint("give the sweep another name", adds=argument("sweep_name", _free_name(sweep))),
                Hint("or see what differs", f"ncsnx diff {run.path_typed} {shlex.quote(sweep.typed)}"),
            )
    return found


def _trains(run: Run, point: SweepPoint) -> bool:
    """Whether a run has the experiment of a point, with measured values where that leaves them open."""
    recorded = run.experiment()
    return identity(recorded) == identity(point.experiment.completed_by(recorded))


def _require_same_sweep(sweep: ParameterSweep, found: ParameterSweepRecord) -> None:
    """Raises UsageError, with what differs, unless both have the same runs that train the same."""
    ours, theirs = ({one.run: one.identity for one in points} for points in (sweep.points, found.points))
    if ours == theirs:
        return
    identifying = identifying_paths(sweep.points[0].experiment)
    differ = list(_differences(found, sweep.record(), identifying)) or ["values of the experiment have changed"]
    raise UsageError(
        f"{sweep.folder.path} is another sweep: {'; '.join(differ)}",
        Hint("give this one another name", adds=argument("sweep_name", _free_name(sweep))),
        Hint("or resume that one", _command(found)),
    )


def _differences(
    found: ParameterSweepRecord, asked: ParameterSweepRecord, identifying: Container[str]
) -> Iterator[str]:
    """Differences between a sweep that was found and one that is asked for, a clause each.

    identifying: paths of the values that are part of the identity; others may differ.
    """
    there, here = (_changes(one) for one in (found, asked))
    if found.base.name != asked.base.name:
        yield f"experiment {_shown(found.base.name)} there, {asked.base.name} here"
    for path in dict.fromkeys((*there, *here)):
        ours, theirs = (_shown(one.get(path, f"no {path}")) for one in (here, there))
        is_swept = any(one.path == path for one in (*found.fields, *asked.fields))
        if ours != theirs and (is_swept or path in identifying):
            yield f"{theirs} there, {ours} here"
    if found.zipped != asked.zipped:
        yield f"the fields are {'zipped' if found.zipped else 'combined'} there"
    if found.seeds != asked.seeds:
        yield f"{counted(found.seeds, 'seed')} there, {asked.seeds:,} here"
    if there == here and list(there) != list(here):
        yield "the fields are in another order"


def _changes(record: ParameterSweepRecord) -> dict[str, str]:
    """The words of a sweep by path, swept fields first."""
    axes = [Axis(one.path, one.values) for one in record.fields]
    return {axis.path: str(axis) for axis in (*axes, *(Axis(path, (text,)) for path, text in record.fixed.items()))}


def _shown(text: str) -> str:
    return shortened(printable(text))


def _free_name(sweep: ParameterSweep) -> str:
    """A name that no sweep has."""
    free = (f"{sweep.name}-{number}" for number in _FIRST_FREE)
    return next((name for name in free if not SweepFolder.named(sweep.runs_folder, name).path.exists()), A_NAME)


def _command(record: ParameterSweepRecord) -> str:
    """The command line that resumes a recorded sweep."""
    words = ["ncsnx", "sweep", record.base.typed, *_changes(record).values()]
    words += [argument("zip")] if record.zipped else []
    text = shlex.join(words)
    text += f" {argument('seeds', record.seeds)}" if record.seeds > 1 else ""
    return text if record.name == record.base.name else f"{text} {argument('name', record.name)}"
