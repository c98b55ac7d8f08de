"""The work of `ncsnx sweep`: trains this rank's share of a parameter sweep, scores it, and compares the settings."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from ncsnx.config.codec import canonical, identity
from ncsnx.config.converter import unstructure
from ncsnx.config.data_sets import Data
from ncsnx.console.messages import Messages
from ncsnx.console.tables import Column, table
from ncsnx.console.training import TrainingView
from ncsnx.console.working import training_console, work_of
from ncsnx.errors import Hint, NcsnxError, Stopped, UsageError, is_out_of_memory
from ncsnx.jobs.carrying_out import carry_out_training
from ncsnx.jobs.sweep_comparison import (
    MeasuredRuns,
    PointStatus,
    SweepSetting,
    as_table,
    compared_settings,
    comparison_csv,
    comparison_values,
    plot_settings,
)
from ncsnx.jobs.sweep_points import SweepPoint
from ncsnx.jobs.targets import Target
from ncsnx.jobs.training_job import TrainingJob, TrainingOptions
from ncsnx.quantities import counted
from ncsnx.ranks.joining import require_same
from ncsnx.ranks.rank_group import RankGroup
from ncsnx.runs.folder import Run, open_results
from ncsnx.runs.manifest import UnsoundError, verify
from ncsnx.runs.names import SWEEP_SUFFIX, step_name
from ncsnx.runs.score_files import value
from ncsnx.runs.selection import select
from ncsnx.runs.writer_lock import is_being_written, writer_of
from ncsnx.spelling import A_NAME, argument
from ncsnx.stopping import StopRequest
from ncsnx.storage import atomic
from ncsnx.work import Work

if TYPE_CHECKING:
    from ncsnx.evaluation.checkpoint_sweep import MeasuredSweep
    from ncsnx.evaluation.measurement_requests import SweepRequest
    from ncsnx.jobs.distance_options import DistanceOptions
    from ncsnx.runtime import Runtime


@attrs.frozen(kw_only=True)
class ParameterSweep:
    """A sweep, how its runs are trained, and how they are scored."""

    name: str
    points: Sequence[SweepPoint]
    target: Target
    """The experiment or run that the points change."""
    folder: Path
    """Folder of runs."""
    training: TrainingOptions
    data: Path | None
    """Folder of the data sets."""
    distance: "DistanceOptions | None"
    """Features and reference of the distance to measure; None: it isn't measured."""
    request: "SweepRequest"
    """Images of each run for the distance."""
    loss: bool
    """Whether the held-out loss is measured."""
    messages: Messages
    json: bool

    def carry_out(self, *, dry_run: bool) -> None:
        """Trains, scores and compares; with `dry_run` it only shows. Raises NcsnxError and Stopped."""
        ranks, points = self.messages.ranks, self.points
        require_same(ranks, "has another sweep", {point.run: identity(point.experiment) for point in points})
        own = points[ranks.rank :: ranks.world]
        with StopRequest() as stop:
            with stop.at_once():
                ranks.first(self._require_free)
                if dry_run:
                    self._show_runs()
                    return
                left = [point for point in own if not self._is_trained(point)]
                self._check(left, stop)
            self.messages.info(self._announcement(own, left))
            failures = self._together(list(self._train(left, stop)), stop)
            if ranks.world > 1:  # each scores its own; afterwards rank 0 reads the scores of all
                self._together(self._measure(own, stop)[1], stop)
            problems = ranks.first(lambda: self._compare(stop))
        if failures:
            raise NcsnxError(f"{counted(len(failures), 'run')} of the sweep failed: {'; '.join(failures)}")
        if problems:
            raise NcsnxError(f"{counted(len(problems), 'run')} could not be scored: {'; '.join(problems)}")

    def _run(self, point: SweepPoint) -> Run:
        return Run(self.folder / point.run)

    def _is_trained(self, point: SweepPoint) -> bool:
        """Whether the run of a point is finished, and its newest checkpoint sound."""
        status = self._status(point)
        try:
            return status.is_finished and bool(verify(self._run(point).checkpoints / step_name(status.step)))
        except UnsoundError:
            return False

    def _status(self, point: SweepPoint) -> PointStatus:
        return PointStatus.of(self._run(point), point)

    def _announcement(self, own: Sequence[SweepPoint], left: Sequence[SweepPoint]) -> str:
        words = [f"sweep {self.name}: {counted(len(self.points), 'run')}"]
        words += [f"{len(own):,} of them for this rank"] if len(own) < len(self.points) else []
        words += [f"{len(own) - len(left):,} finished"] if len(left) < len(own) else []
        return ", ".join(words)

    def _together(self, own: list[str], stop: StopRequest) -> list[str]:
        """The lines of all ranks, each of which may need hours for its own."""
        return [line for lines in self.messages.ranks.gather(lambda: own, check_stop=stop.check) for line in lines]

    # ------------------------------------------------------------------------------------------------------ training

    def _require_free(self) -> None:
        """Raises UsageError if the run of a point has another experiment."""
        for point in self.points:
            run = self._run(point)
            if run.path.exists():
                recorded = run.experiment()
                if identity(recorded) != identity(point.experiment.completed_by(recorded)):
                    raise UsageError(
                        f"{run.path} exists and belongs to another experiment, so it cannot be a run of this sweep",
                        Hint("give the sweep another name", adds=argument("sweep_name", A_NAME)),
                        Hint("or see what differs", f"ncsnx diff {run.path_typed} {self.target.experiment.name}"),
                    )

    def _check(self, points: Sequence[SweepPoint], stop: StopRequest) -> None:
        """Raises NcsnxError if this machine can't train or score the points, before anything is written."""
        from ncsnx.config.variants import load_plugins
        from ncsnx.data import data_folder, open_data
        from ncsnx.tracking.choosing import known_trackers

        load_plugins("ncsnx.runtime")
        known_trackers(self.training.track or (), "track")
        work = work_of(self.messages, stop)
        for point in points:
            self._runtime().for_training(point.experiment)
        for data in _different_data(points):
            open_data(data, data_folder(self.data), work)
        if self.distance is not None:
            for data in _different_data(self.points):
                self.distance.check(data, self._runtime(), work)

    def _runtime(self) -> "Runtime":
        """The runtime of this process, on a GPU of its own where there are several ranks. Raises UsageError."""
        return self.training.runtime(self.messages.ranks)

    def _own_work(self, messages: Messages, stop: StopRequest) -> Work:
        """The Work of this rank alone, whose runs no other rank shares."""
        ranks = self.messages.ranks
        alone = RankGroup(local_rank=ranks.local_rank, local_world=ranks.local_world)
        return attrs.evolve(work_of(messages, stop), ranks=alone)

    def _train(self, points: Sequence[SweepPoint], stop: StopRequest) -> Iterator[str]:
        """Trains the points one after the other; gives a line for each that failed. Raises Stopped."""
        for place, point in enumerate(points, start=1):
            values = " ".join(f"{path}={text}" for path, text in point.values.items())
            self.messages.info(f"{place}/{len(points)} {point.run}: {values}")
            try:
                self._train_point(point, stop)
            except Stopped as stopped:
                stopped.then = f"the same command resumes the sweep at {point.run}"
                raise
            except Exception as error:
                if not isinstance(error, NcsnxError) and not is_out_of_memory(error):
                    raise
                run = self._run(point)
                if run.path.exists() and is_being_written(run.path):
                    self.messages.info(f"{point.run} is left out: it is being written by {writer_of(run.path)}")
                    continue
                reason = error.message if isinstance(error, NcsnxError) else "not enough memory"
                self.messages.warning(f"{point.run} failed: {reason}")
                yield f"{point.run} ({reason})"

    def _train_point(self, point: SweepPoint, stop: StopRequest) -> None:
        """Trains or resumes the run of a point, as `ncsnx train` does."""
        messages = Messages(self.messages.verbosity)  # with a log of its own: that of the run
        job = TrainingJob(
            experiment=point.experiment,
            origins=point.origins,
            source=self.target.source,
            file=None if self.target.file is None else Path(self.target.file),
            folder=self.folder,
            name=point.run,
            data=self.data,
            options=attrs.evolve(self.training, device=str(self._runtime().device)),
        )
        console = attrs.evolve(
            training_console(messages, stop),
            work=self._own_work(messages, stop),
            view=partial(TrainingView, messages),
        )
        carry_out_training(job, console, stop)

    # ------------------------------------------------------------------------------------------------------- scoring

    def _measure(self, points: Sequence[SweepPoint], stop: StopRequest) -> tuple[list[MeasuredRuns], list[str]]:
        """Scores the newest checkpoints of finished runs, as `ncsnx fid` and `ncsnx loss` do; scores that exist are
        read. Returns the numbers that were asked for, and a line for each run that has no score."""
        measured, problems = list[MeasuredRuns](), list[str]()
        work = self._own_work(self.messages, stop)
        work = attrs.evolve(work, info=work.detail)
        wanted = [("fid", self._distance)] if self.distance is not None else []
        wanted += [("loss", self._held_out)] if self.loss else []
        finished = [point for point in points if self._status(point).is_finished] if wanted else []
        for key, measure in wanted:
            by_run, sweep = dict[str, float](), None
            for point in finished:
                self.messages.detail(f"{key} of {point.run}")
                try:
                    result = measure(point, work)
                except NcsnxError as error:
                    problems.append(f"{point.run}: {error}")
                    continue
                assert result is not None, "this rank's own runs have no other ranks"
                problems += [f"{point.run}: {line}" for line in result.left_out]
                if result.best is not None and (score := value(result.best, "score")) is not None:
                    by_run[point.run], sweep = score, result.sweep
            if sweep is not None:
                measured.append(MeasuredRuns(key=key, title=sweep.metric, caption=sweep.caption(), by_run=by_run))
        return measured, problems

    def _weights_runtime(self, point: SweepPoint) -> "Runtime":
        runtime = attrs.evolve(self._runtime(), checkpointing=False, workers=0, ranks=1)
        return runtime.for_weights_of(point.experiment)

    def _distance(self, point: SweepPoint, work: Work) -> "MeasuredSweep[Any] | None":
        from ncsnx.jobs.scoring_job import ScoringJob, carry_out_scoring

        assert self.distance is not None
        run = self._run(point)
        job = ScoringJob(
            run=run,
            experiment=point.experiment,
            selection=select(run, "latest"),
            request=self.request,
            distance=self.distance,
            runtime=lambda: self._weights_runtime(point),
        )
        return carry_out_scoring(job, work, "")

    def _held_out(self, point: SweepPoint, work: Work) -> "MeasuredSweep[Any] | None":
        from ncsnx.data import data_folder
        from ncsnx.evaluation.checkpoint_sweep import measure_checkpoints
        from ncsnx.evaluation.held_out_sweep import HeldOutSweep
        from ncsnx.features.data_source import DataSource

        run = self._run(point)

        def build(work: Work) -> HeldOutSweep:
            source = DataSource.of_run(run, data_folder(self.data), work)
            return HeldOutSweep(
                run=run, experiment=point.experiment, source=source, runtime=self._weights_runtime(point)
            )

        return measure_checkpoints(run, select(run, "latest"), build, work, shorter="")

    # ---------------------------------------------------------------------------------------------------- comparison

    def _compare(self, stop: StopRequest) -> list[str]:
        """Shows the settings of all runs, also of those that others have trained, and writes table and plot.

        Returns a line for each run that has no score.
        """
        states = {point.run: self._status(point) for point in self.points}
        measured, problems = self._measure(self.points, stop)
        if not measured:
            by_run = {
                run: status.held_out
                for run, status in states.items()
                if status.is_finished and status.held_out is not None
            }
            caption = "on one batch, at the last evaluation of the training"
            measured = [MeasuredRuns(key="held_out", title="held-out loss", caption=caption, by_run=by_run)]
            measured = measured if by_run else []
        settings = compared_settings(self.points, measured)
        if measured and (self.distance is not None or self.loss):
            stem = open_results(self.folder / f"{self.name}{SWEEP_SUFFIX}") / "scores"
            atomic.write_bytes(stem.with_suffix(".csv"), comparison_csv(settings, states, measured))
            plot_settings(stem, settings, measured, self.name)
            self.messages.info(f"table and plot: {stem}.csv, .png, .svg")
        self._show(settings, states, measured)
        if measured and (best := settings[0]).numbers[measured[0].key]:
            self.messages.info(f"best: {best.name}, {measured[0].title} {best.in_words(measured[0].key)}")
        elif not measured and not self.loss:
            self.messages.info(f"to compare the held-out losses, repeat the command with {argument('loss', True)}")
        return problems

    def _show(
        self,
        settings: Sequence[SweepSetting],
        states: Mapping[str, PointStatus],
        measured: Sequence[MeasuredRuns],
    ) -> None:
        if self.json:
            protocols = {one.key: {"title": one.title, "protocol": one.caption} for one in measured}
            values = comparison_values(settings, states, measured)
            self.messages.json({"sweep": self.name, "measured": protocols, "settings": values})
            return
        titles, rows = as_table(settings, states, measured)
        table(self.messages, [Column(title, "right") for title in titles], rows)

    def _show_runs(self) -> None:
        """Shows each run and how far it is."""
        states = {point.run: self._status(point) for point in self.points}
        if self.json:
            self._show(compared_settings(self.points, []), states, [])
            return
        rows = [(point.run, f"{states[point.run].step:,}/{point.experiment.steps:,}") for point in self.points]
        table(self.messages, [Column("run"), Column("step", "right")], rows)


def _different_data(points: Sequence[SweepPoint]) -> list[Data]:
    return list({canonical(unstructure(point.experiment.data)): point.experiment.data for point in points}.values())
