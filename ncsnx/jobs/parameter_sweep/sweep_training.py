"""Trains the points of a parameter sweep one after the other; a point that fails doesn't end the others."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

import attrs

from ncsnx.errors import NcsnxError, Stopped, is_out_of_memory
from ncsnx.jobs.carrying_out import carry_out_training
from ncsnx.jobs.parameter_sweep.beginning import ParameterSweep
from ncsnx.jobs.parameter_sweep.points import SweepPoint
from ncsnx.jobs.training_job import TrainingConsole, TrainingJob, TrainingOptions
from ncsnx.quantities import counted
from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import checkpoints
from ncsnx.runs.metrics_log import MetricsLog
from ncsnx.runs.writer_lock import is_being_written, writer_of
from ncsnx.stopping import StopRequest

PointState = Literal["finished", "failed", "busy", "unfinished", "not begun"]
"""'busy': another process writes the run."""


@attrs.frozen(kw_only=True)
class PointStatus:
    """How far the run of a point has come."""

    run: str
    state: PointState
    step: int
    """Step of its newest checkpoint; 0 without one."""
    loss: float | None = None
    """Last training loss on record."""
    held_out: float | None = None
    """Last held-out loss on record."""
    reason: str | None = None
    """Why it failed, or who writes it."""


class SweepDisplay(Protocol):
    """Shows a sweep while it is trained."""

    def begin(self, point: SweepPoint) -> TrainingConsole:
        """The training of a point begins; returns what shows it."""

    def end(self, status: PointStatus) -> None:
        """A point has been trained or is left out; called for each point, in order."""


@attrs.frozen(kw_only=True)
class SweepTraining:
    """How the points of a sweep are trained."""

    sweep: ParameterSweep
    source: str | None
    """Text of the experiment's file."""
    file: Path | None
    data: Path | None
    """Folder of the data sets."""
    options: TrainingOptions

    def carry_out(self, points: Sequence[SweepPoint], display: SweepDisplay, stop: StopRequest) -> list[PointStatus]:
        """Trains the points whose runs aren't finished; returns how each of them stands afterwards.

        Raises Stopped after a stop request: the current run then has a checkpoint.
        """
        found: list[PointStatus] = []
        for point in points:
            try:
                stop.check()
                found.append(self._carry_out_point(point, display, stop))
            except Stopped as stopped:
                done = sum(one.state == "finished" for one in found)
                stopped.then = (
                    f"the same command resumes the sweep, which has {done:,} of {len(points):,} runs finished"
                )
                raise
            display.end(found[-1])
        return found

    def _carry_out_point(self, point: SweepPoint, display: SweepDisplay, stop: StopRequest) -> PointStatus:
        before = status_of(self.sweep.run_of(point), point)
        if before.state in ("finished", "busy"):
            return before
        console, begun = _noting(display.begin(point))
        try:
            carry_out_training(self._job(point), console, stop)
        except Exception as error:
            if not isinstance(error, NcsnxError) and not is_out_of_memory(error):
                raise
            return self._after(point, before, error, was_ours=bool(begun))
        return status_of(self.sweep.run_of(point), point)

    def _job(self, point: SweepPoint) -> TrainingJob:
        return TrainingJob(
            experiment=point.experiment,
            origins=point.origins,
            source=self.source,
            file=self.file,
            folder=self.sweep.runs_folder,
            name=point.run,
            data=self.data,
            options=self.options,
        )

    def _after(self, point: SweepPoint, before: PointStatus, error: Exception, *, was_ours: bool) -> PointStatus:
        """The status of a point whose training raised an error. was_ours: whether this process had the run's lock."""
        run = self.sweep.run_of(point)
        now = status_of(run, point)
        if now.state == "busy" or (not was_ours and before.state == "not begun" and run.path.exists()):
            return attrs.evolve(now, state="busy", reason=now.reason or "another process, which has just begun it")
        reason = error.message if isinstance(error, NcsnxError) else "not enough memory"
        return attrs.evolve(now, state="failed", reason=reason)


def status_of(run: Run, point: SweepPoint) -> PointStatus:
    """How far a run has come, by its files; never 'failed'."""
    if not run.path.exists():
        return PointStatus(run=point.run, state="not begun", step=0)
    step = max(checkpoints(run), default=0)
    state: PointState = "finished" if step >= point.experiment.steps else "unfinished"
    reason = None
    if is_being_written(run.path):
        state, reason = "busy", writer_of(run.path)
    loss, held_out = _last_logged(run, "loss", "held_out")
    return PointStatus(run=point.run, state=state, step=step, loss=loss, held_out=held_out, reason=reason)


def is_finished(run: Run, point: SweepPoint) -> bool:
    """Whether the status of a run is 'finished', without reading its losses."""
    is_trained = run.path.exists() and max(checkpoints(run), default=0) >= point.experiment.steps
    return is_trained and not is_being_written(run.path)


def refuse_failed(found: Sequence[PointStatus]) -> None:
    """Raises NcsnxError that lists the points that failed, if any did."""
    if failed := [one for one in found if one.state == "failed"]:
        what = counted(len(failed), "run")
        raise NcsnxError(f"{what} of the sweep failed: {'; '.join(f'{one.run} ({one.reason})' for one in failed)}")


def _noting(console: TrainingConsole) -> tuple[TrainingConsole, list[Path]]:
    """The console, and a list that gets the log file once the training has the run's lock."""
    begun: list[Path] = []

    def attach(log: Path) -> None:
        begun.append(log)
        console.attach(log)

    return attrs.evolve(console, attach=attach), begun


def _last_logged(run: Run, *keys: str) -> list[float | None]:
    """The last number on record under each key."""
    try:
        records = MetricsLog(run).read()
    except NcsnxError:
        records = []
    found = (next((record[key] for record in reversed(records) if key in record), None) for key in keys)
    return [float(one) if isinstance(one, int | float) and not isinstance(one, bool) else None for one in found]
