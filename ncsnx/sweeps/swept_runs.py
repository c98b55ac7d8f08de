"""The runs of a parameter sweep, which ranks share: trained, scored, compared."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from ncsnx.config.codec import canonical, identity
from ncsnx.config.converter import unstructure
from ncsnx.config.data_sets import Data
from ncsnx.errors import Hint, NcsnxError, Stopped, UsageError, is_out_of_memory
from ncsnx.evaluation.held_out import loss_facts
from ncsnx.features.real_images import DataSource
from ncsnx.jobs.training_job import TrainingJob, require_free
from ncsnx.quantities import counted
from ncsnx.ranks.rank_group import RankGroup
from ncsnx.runs.folder import Run
from ncsnx.runs.ledger import MeasurementProtocol, value
from ncsnx.runs.manifest import UnsoundError, checkpoints, read_manifest
from ncsnx.runs.measurements import MeasuredRow, Measurements
from ncsnx.runs.metrics_log import MetricsLog
from ncsnx.runs.names import SWEEP_SUFFIX, step_name
from ncsnx.runs.summaries import RunSummary, summary_of
from ncsnx.runs.writer_lock import is_being_written, writer_of
from ncsnx.spelling import A_NAME, argument
from ncsnx.storage import atomic
from ncsnx.sweeps.comparison import (
    ComparedSettings,
    RunNumber,
    compared_settings,
    comparison_csv,
    is_finished,
    plot_settings,
)
from ncsnx.sweeps.points import SweepPoint
from ncsnx.work import Work


@attrs.frozen(kw_only=True)
class SweptRuns:
    """The runs of a sweep."""

    name: str
    points: Sequence[SweepPoint]
    folder: Path
    """Folder of the runs."""
    data: Path
    """Folder of the data sets."""
    job_of: Callable[[SweepPoint], TrainingJob]
    """The training of a point."""
    measures: Mapping[str, Callable[[Run, int, Work], Measurements]]
    """What the runs are scored by, each at a step."""
    require_scorable: Callable[[Data], None]
    """Raises NcsnxError if runs with such data can't be scored here."""
    work: Work

    @property
    def own(self) -> Sequence[SweepPoint]:
        """The points of this rank."""
        return self.points[self.work.ranks.rank :: self.work.ranks.world]

    def _run(self, point: SweepPoint) -> Run:
        return Run(self.folder / point.run)

    def _status(self, point: SweepPoint) -> RunSummary | None:
        """How far the run of a point is; None if it does not exist."""
        run = self._run(point)
        return summary_of(run) if run.path.exists() else None

    def is_trained(self, point: SweepPoint) -> bool:
        """Whether the run of a point is finished, and its newest checkpoint has a manifest."""
        run = self._run(point)
        try:
            return is_finished(point, self._status(point)) and bool(
                read_manifest(run.checkpoints / step_name(max(checkpoints(run))))
            )
        except UnsoundError:
            return False

    def announcement(self, left: Sequence[SweepPoint]) -> str:
        """Line about the work of this rank."""
        words = [f"sweep {self.name}: {counted(len(self.points), 'run')}"]
        words += [f"{len(self.own):,} of them for this rank"] if len(self.own) < len(self.points) else []
        words += [f"{len(self.own) - len(left):,} finished"] if len(left) < len(self.own) else []
        return ", ".join(words)

    def together(self, lines: list[str]) -> list[str]:
        """The lines of all ranks, each of which may need hours for its own."""
        ranks, check_stop = self.work.ranks, self.work.check_stop
        return [line for found in ranks.gather(lambda: lines, check_stop=check_stop) for line in found]

    # ------------------------------------------------------------------------------------------------------ training

    def require_free(self) -> None:
        """Raises UsageError if the run of a point has another experiment."""
        for point in self.points:
            run = self._run(point)
            if run.path.exists():
                recorded = run.experiment()
                if identity(recorded) != identity(point.experiment):
                    raise UsageError(
                        f"{run.path} exists and belongs to another experiment, so it cannot be a run of this sweep",
                        Hint("give the sweep another name", adds=argument("name", A_NAME)),
                        Hint("or see what differs", f"ncsnx diff {run.cli_path} {point.experiment.name}"),
                    )

    def check(self, points: Sequence[SweepPoint]) -> None:
        """Raises NcsnxError if this machine can't train or score the points, as far as it is seen at once."""
        from ncsnx.config.variants import load_plugins
        from ncsnx.data import open_data
        from ncsnx.tracking.tracker import known_trackers

        load_plugins("ncsnx.runtime")
        for point in points:
            job = self.job_of(point)
            known_trackers(job.trackers or ())
            job.runtime(self._own_work(self.work).ranks).for_training(point.experiment)
        for data in _different_data(points):
            open_data(data, self.data, self.work)
            self.require_scorable(data)

    def _own_work(self, work: Work) -> Work:
        """The Work of this rank alone, whose runs no other rank shares."""
        ranks = self.work.ranks
        return attrs.evolve(work, ranks=RankGroup(local_rank=ranks.local_rank, local_world=ranks.local_world))

    def train(self, points: Sequence[SweepPoint]) -> Iterator[str]:
        """Trains the points one after the other; gives a line for each that failed. Raises Stopped."""
        work = self.work
        for place, point in enumerate(points, start=1):
            words = " ".join(f"{path}={text}" for path, text in point.values.items())
            work.info(f"{place}/{len(points)} {point.run}: {words}")
            try:
                self._train_point(point)
            except Stopped as stopped:
                stopped.then = f"the same command resumes the sweep at {point.run}"
                raise
            except Exception as error:
                if not isinstance(error, NcsnxError) and not is_out_of_memory(error):
                    raise
                run = self._run(point)
                if run.path.exists() and is_being_written(run.path):
                    work.info(f"{point.run} is left out: it is being written by {writer_of(run.path)}")
                    continue
                reason = error.message if isinstance(error, NcsnxError) else "not enough memory"
                work.warning(f"{point.run} failed: {reason}")
                yield f"{point.run} ({reason})"

    def _train_point(self, point: SweepPoint) -> None:
        """Trains or resumes the run of a point, as `ncsnx train` does."""
        from ncsnx.jobs.train_run import train_run

        work = self._own_work(self.work.with_own_log())
        with work.interruptible():
            job = require_free(self.job_of(point), work)
        train_run(job, work)

    # ------------------------------------------------------------------------------------------------------- scoring

    def measure(self, points: Sequence[SweepPoint]) -> tuple[dict[str, dict[str, RunNumber]], list[str]]:
        """Scores finished runs as `ncsnx fid` and `ncsnx loss` do, at their last steps in the sweep, even if they were
        trained further; scores that exist are read. Returns the numbers that were asked for, and a line for each run
        that has no score."""
        problems, work = list[str](), self._own_work(attrs.evolve(self.work, info=self.work.detail))
        measured: dict[str, dict[str, RunNumber]] = {key: {} for key in self.measures}
        for point in [point for point in points if measured and is_finished(point, self._status(point))]:
            for key, by_run in measured.items():
                work.detail(f"{key} of {point.run}")
                try:
                    found = self.measures[key](self._run(point), point.experiment.steps, work)
                except NcsnxError as error:
                    problems.append(f"{point.run}: {error}")
                    continue
                problems += [f"{point.run}: {line}" for line in found.left_out]
                if (best := found.best_row) is not None and found.recorded is not None and best.score is not None:
                    by_run[point.run] = RunNumber(
                        protocol=found.recorded, value=best.score, facts=found.protocol, words=found.subject_words
                    )
        return measured, problems

    # ---------------------------------------------------------------------------------------------------- comparison

    def status(self) -> ComparedSettings:
        """The runs and how far they are."""
        rows = []
        for point in self.points:
            state = self._status(point)
            step = 0 if state is None else state.step
            facts = {"run": point.run, "step": step, "steps": point.experiment.steps}
            rows.append(MeasuredRow(names=(point.run, f"{step:,}/{point.experiment.steps:,}"), facts=facts, values={}))
        table = Measurements(metric="", where=self.name, names=("run", "step"), columns=(), rows=tuple(rows))
        return ComparedSettings(name=self.name, tables=[table])

    def compared(self) -> tuple[ComparedSettings, list[str]]:
        """The settings of all runs, also of those that others have trained, with table and plot; and a line for each
        run that has no score."""
        states = {point.run: self._status(point) for point in self.points}
        numbers, problems = self.measure(self.points)
        if not numbers and (last := self._last_losses(states)):
            numbers = {"held_out": last}
        tables, plot = compared_settings(self.name, self.points, states, numbers), None
        if self.measures:
            plot = atomic.make_folder(self.folder / f"{self.name}{SWEEP_SUFFIX}") / "scores"
            atomic.write_bytes(plot.with_suffix(".csv"), comparison_csv(tables))
            for place, table in enumerate(tables):
                if table.columns:
                    plot_settings(plot if place == 0 else plot.with_name(f"scores-{place + 1}"), table)
        return ComparedSettings(name=self.name, tables=tables, plot=plot), problems

    def _last_losses(self, states: Mapping[str, RunSummary | None]) -> dict[str, RunNumber]:
        """The held-out losses of finished runs, at the last evaluation of the training."""
        found = dict[str, RunNumber]()
        for point in self.points:
            state = states[point.run]
            if state is not None and is_finished(point, state) and (loss := self._held_out(point, state)) is not None:
                run, most = self._run(point), point.experiment.batch_size
                given = " given their classes" if point.experiment.model.classes else ""
                how = (
                    f"on one batch of at most {counted(most, 'image')}{given}, at the last evaluation of the training, "
                    f"{point.experiment.loss.in_words}"
                )
                source = DataSource.of_run(run, self.data)
                # the size of the batch says which images are seen, at which levels
                facts = source.facts | loss_facts(point.experiment, source.space) | {"batch_size": most}
                last = MeasurementProtocol(measure="held_out", facts=facts, metric="held-out loss", words={"": how})
                found[point.run] = RunNumber(protocol=last, value=loss, facts=facts)
        return found

    def _held_out(self, point: SweepPoint, state: RunSummary) -> float | None:
        """The last held-out loss of a run up to the last step of the sweep; None without one."""
        if state.step == point.experiment.steps:
            return state.held_out
        records = [one for one in MetricsLog(self._run(point)).read() if one["step"] <= point.experiment.steps]
        return next((value(one, "held_out") for one in reversed(records) if "held_out" in one), None)


def _different_data(points: Sequence[SweepPoint]) -> list[Data]:
    return list({canonical(unstructure(point.experiment.data)): point.experiment.data for point in points}.values())
