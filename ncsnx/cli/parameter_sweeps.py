"""The work of `ncsnx sweep`: trains this process's share of a parameter sweep, scores it, and shows the comparison."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import attrs

from ncsnx.cli.retyping import typed_with
from ncsnx.config.canonical import canonical, digest
from ncsnx.config.codec import unstructure
from ncsnx.config.data_sets import Data
from ncsnx.console.messages import Messages
from ncsnx.console.progress import displayed
from ncsnx.console.sweeps.parameter_sweep import ParameterSweepView
from ncsnx.console.tables import Column, table
from ncsnx.console.working import work_of
from ncsnx.errors import NcsnxError
from ncsnx.evaluation.sweeps.sweep_request import SweepRequest
from ncsnx.jobs.parameter_sweep.beginning import ParameterSweep, begin_sweep, require_free
from ncsnx.jobs.parameter_sweep.points import SweepPoint
from ncsnx.jobs.parameter_sweep.shares import share_here
from ncsnx.jobs.parameter_sweep.sweep_comparison import (
    MeasuredRuns,
    SweepSetting,
    as_table,
    compared_settings,
    comparison_csv,
    comparison_values,
    held_out_in_training,
)
from ncsnx.jobs.parameter_sweep.sweep_training import PointStatus, SweepTraining, is_finished, refuse_failed, status_of
from ncsnx.jobs.targets import Target
from ncsnx.jobs.training_job import TrainingOptions
from ncsnx.quantities import counted
from ncsnx.ranks.joining import require_same
from ncsnx.ranks.rank_group import RankGroup
from ncsnx.runs.folder import Run
from ncsnx.runs.parameter_sweeps import COMPARISON
from ncsnx.spelling import argument
from ncsnx.stopping import StopRequest
from ncsnx.storage import atomic
from ncsnx.work import Work

if TYPE_CHECKING:
    from ncsnx.jobs.distance_options import DistanceOptions
    from ncsnx.jobs.parameter_sweep.sweep_scoring import Opened
    from ncsnx.runtime import Runtime

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class SweepCommand:
    """One call of the command."""

    messages: Messages
    sweep: ParameterSweep
    target: Target
    training: TrainingOptions
    data: Path | None
    distance: "DistanceOptions | None"
    """Features and reference of `--fid`; None without it."""
    images: SweepRequest
    """Images of each run for `--fid`."""
    loss: bool
    json: bool

    def carry_out(self, *, dry_run: bool) -> None:
        """Trains, scores and compares; with `dry_run` it only shows. Raises NcsnxError and Stopped."""
        ranks, sweep = self.messages.ranks, self.sweep
        identities = {point.run: point.identity for point in sweep.points}
        require_same(ranks, "has another sweep", {"runs": digest(identities)})
        share = share_here(ranks)
        with StopRequest() as stop:
            with stop.at_once():
                ranks.first(lambda: require_free(sweep))
                own = share.of(sweep.points)
                if dry_run:
                    self._show_runs()
                    return
                self._check_distance(stop)
                left = [point for point in own if not is_finished(sweep.run_of(point), point)]
                if left:
                    self._prepare(left, stop)
            is_new = ranks.first(lambda: begin_sweep(sweep))
            self.messages.info(_what_comes(sweep, own, left, share.words, is_new=is_new))
            trained = self._train(own, left, stop)
            failed = [one for found in self._together(trained, stop) for one in found]
            problems = [one for found in self._together(self._score(own, stop), stop) for one in found]
            ranks.first(lambda: self._compare(stop))
            refuse_failed(failed)
            if problems:
                raise NcsnxError(f"{counted(len(problems), 'run')} could not be scored: {'; '.join(problems)}")

    # ------------------------------------------------------------------------------------------------------ training

    def _prepare(self, points: Sequence[SweepPoint], stop: StopRequest) -> None:
        """Raises NcsnxError if this machine can't train a point, or data is missing, before anything is written."""
        from ncsnx.config.variants import load_plugins
        from ncsnx.data import data_folder, open_data
        from ncsnx.tracking.choosing import known_trackers

        load_plugins("ncsnx.runtime")
        known_trackers(self.training.track or (), "track")
        for point in {point.experiment.precision: point for point in points}.values():
            self._runtime().for_training(point.experiment)
        work = work_of(self.messages, stop)
        for data in _data_of(points):
            open_data(data, data_folder(self.data), work)

    def _train(self, own: Sequence[SweepPoint], left: Sequence[SweepPoint], stop: StopRequest) -> list[PointStatus]:
        if not left:
            return []
        options = attrs.evolve(self.training, device=str(self._runtime().device))
        training = SweepTraining(
            sweep=self.sweep,
            source=self.target.source,
            file=None if self.target.file is None else Path(self.target.file),
            data=self.data,
            options=options,
        )
        view = ParameterSweepView(self.messages, own, self._own_work(stop), self.messages.ranks.give_sign_of_life)
        with displayed(self.messages, view):
            return training.carry_out(own, view, stop)

    def _runtime(self) -> "Runtime":
        """The runtime of this process, on a GPU of its own where there are several ranks. Raises UsageError."""
        return self.training.runtime(self.messages.ranks)

    def _own_work(self, stop: StopRequest) -> Work:
        """The Work of this rank alone: no other rank shares its runs."""
        ranks = self.messages.ranks

        def check_stop() -> None:
            ranks.give_sign_of_life()
            stop.check()

        alone = RankGroup(local_rank=ranks.local_rank, local_world=ranks.local_world)
        return attrs.evolve(work_of(self.messages, stop), check_stop=check_stop, ranks=alone)

    def _together(self, own: T, stop: StopRequest) -> list[T]:
        """The values of all ranks, each of which may need hours for its own."""
        ranks = self.messages.ranks
        return ranks.together(lambda: own, check_stop=partial(ranks.check_stop, stop))

    # ------------------------------------------------------------------------------------------------------- scoring

    def _check_distance(self, stop: StopRequest) -> None:
        """Raises NcsnxError for features or a reference that don't exist, before anything is trained."""
        if self.distance is not None:
            runtime, work = self._runtime(), work_of(self.messages, stop)
            for data in _data_of(self.sweep.points):
                self.distance.check(data, runtime, work)

    def _score(self, own: Sequence[SweepPoint], stop: StopRequest) -> list[str]:
        """Scores this rank's finished runs; returns a line for each that has no score."""
        runs, problems = self._finished(own), list[str]()
        if runs and (self.distance is not None or self.loss):
            from ncsnx.jobs.parameter_sweep.sweep_scoring import score_runs

            work = self._own_work(stop)
            for key, opened in self._measurements(work).items():
                self.messages.info(f"{key}: {counted(len(runs), 'run')}")
                problems += score_runs(runs, opened, work)
        return problems

    def _finished(self, points: Sequence[SweepPoint]) -> list[Run]:
        runs = ((self.sweep.run_of(point), point) for point in points)
        return [run for run, point in runs if is_finished(run, point)]

    def _measurements(self, work: Work) -> "dict[str, Opened]":
        """Key of each number that was asked for → what opens its measurement."""
        from ncsnx.jobs.parameter_sweep.sweep_measurements import RunMeasurements

        opening = RunMeasurements(
            experiments={point.run: point.experiment for point in self.sweep.points},
            runtime=attrs.evolve(self._runtime(), checkpointing=False, workers=0, ranks=1),
            data=self.data,
            work=work,
        )
        found: dict[str, Opened] = {}
        if (distance := self.distance) is not None:
            found["fid"] = lambda run: opening.distance(run, distance, self.images)
        if self.loss:
            found["loss"] = opening.held_out
        return found

    # ---------------------------------------------------------------------------------------------------- comparison

    def _compare(self, stop: StopRequest) -> None:
        """Shows the settings of all runs, also of those that others have trained, and writes table and plot."""
        states = self._states()
        measured = self._measured(self._own_work(stop)) or held_out_in_training(states.values())
        settings = compared_settings(self.sweep.points, states, measured)
        if measured and (self.distance is not None or self.loss):
            self._write(settings, measured)
        self._show(settings, measured)

    def _states(self) -> dict[str, PointStatus]:
        return {point.run: status_of(self.sweep.run_of(point), point) for point in self.sweep.points}

    def _measured(self, work: Work) -> list[MeasuredRuns]:
        runs = self._finished(self.sweep.points)
        if not runs or not (self.distance is not None or self.loss):
            return []
        from ncsnx.jobs.parameter_sweep.sweep_scoring import measured_runs

        every = [measured_runs(runs, opened, key=key, work=work) for key, opened in self._measurements(work).items()]
        return [one for one in every if one is not None]

    def _write(self, settings: Sequence[SweepSetting], measured: Sequence[MeasuredRuns]) -> None:
        """Writes table and plot into the sweep's folder. Raises NcsnxError."""
        from ncsnx.jobs.parameter_sweep.sweep_plot import plot_settings

        stem = self.sweep.folder.path / COMPARISON
        atomic.write_bytes(stem.with_suffix(".csv"), comparison_csv(settings, measured))
        plot_settings(stem, settings, measured, self.sweep.name)
        self.messages.info(f"table and plot: {stem}.csv, .png, .svg")

    def _show(self, settings: Sequence[SweepSetting], measured: Sequence[MeasuredRuns]) -> None:
        if self.json:
            protocols = {one.key: {"title": one.title, "protocol": one.caption} for one in measured}
            compared = comparison_values(settings, measured)
            self.messages.json({"sweep": self.sweep.name, "measured": protocols, "settings": compared})
            return
        titles, rows = as_table(settings, measured)
        table(self.messages, [Column(title, "right") for title in titles], rows)
        if measured and (best := settings[0].spreads[measured[0].key]) is not None:
            score = best.in_words(len(settings[0].points))
            self.messages.info(f"best: {settings[0].name}, {measured[0].title} {score}")
        elif not (self.loss or self.distance) and any(one.finished for one in settings):
            self.messages.info(f"compare their held-out losses:  {typed_with(argument('loss'))}")

    def _show_runs(self) -> None:
        """Shows each run and how far it is."""
        states = self._states()
        if self.json:
            self._show(compared_settings(self.sweep.points, states, []), [])
            return
        rows = [
            [one.run, f"{one.step:,}/{point.experiment.steps:,}", one.state]
            for point in self.sweep.points
            for one in (states[point.run],)
        ]
        table(self.messages, [Column("run"), Column("step", "right"), Column("state")], rows)


def _data_of(points: Sequence[SweepPoint]) -> list[Data]:
    """The data sets that differ."""
    return list({canonical(unstructure(point.experiment.data)): point.experiment.data for point in points}.values())


def _what_comes(
    sweep: ParameterSweep, own: Sequence[SweepPoint], left: Sequence[SweepPoint], share: str, *, is_new: bool
) -> str:
    """The sweep in one line, and what this process has to train."""
    words = [f"sweep {sweep.name}: {counted(len(sweep.points), 'run')}"]
    if share:
        words.append(f"{len(own):,} of them for {share}")
    done = len(own) - len(left)
    if done:
        words.append(f"{done:,} finished" if left else "all finished")
    return f"{', '.join(words)}; in {sweep.folder.path}" if is_new else ", ".join(words)
