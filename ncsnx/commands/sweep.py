"""`ncsnx sweep`: one run for each combination of values, trained, scored and compared."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import attrs

from ncsnx.commands.command import Command, Panel, argument, as_function, command, option
from ncsnx.commands.groups import SCORED, Changes, Compared, InRuns, split_changes
from ncsnx.commands.train import OfTraining, Training
from ncsnx.errors import Hint, UsageError
from ncsnx.quantities import counted
from ncsnx.spelling import argument as spelled
from ncsnx.spelling import parameter

if TYPE_CHECKING:
    from ncsnx.config.data_sets import Data
    from ncsnx.config.overrides import Override
    from ncsnx.jobs.training_job import TrainingJob
    from ncsnx.runs.folder import Run
    from ncsnx.runs.measurements import Measurements
    from ncsnx.runs.targets import Target
    from ncsnx.sweeps.comparison import ComparedSettings
    from ncsnx.sweeps.points import SweepPoint
    from ncsnx.sweeps.swept_runs import SweptRuns
    from ncsnx.work import Work

_SWEEP_PANEL, _COMPARISON_PANEL = "Sweep", "Comparison"


@command("sweep", panel=Panel.TRAIN, order=15, then="no step was trained; repeat the command to train", is_shared=True)
@attrs.frozen(slots=False, kw_only=True, eq=False)
class Sweep(OfTraining, Training, InRuns, Compared, Command["ComparedSettings"]):
    """Train a run for each combination of values, and compare them.

    `ncsnx sweep digits model.width=32,64 optimizer.lr=1e-3,3e-4 --seeds 3` makes twelve runs, named by what differs:
    digits-width_32-lr_0.001-seed_1234.

    The same command resumes: finished runs are left as they are. A run that fails doesn't end the others. With several
    GPUs and under torchrun, each process trains its share of the runs.

    With `fid` or `loss` the newest checkpoint of each run is scored. A table and a plot in NAME.sweep/ then compare
    the settings, by mean and standard deviation over seeds.
    """

    values: Annotated[Changes, argument("FIELD=VALUE,VALUE", is_list=True, complete="field")] = attrs.field(
        default=(), kw_only=False
    )
    """Values that a field takes in turn, such as model.width=32,64; FIELD=VALUE is the same for all runs."""
    zip: Annotated[bool, option(_SWEEP_PANEL)] = False
    """Pair the fields' values one by one, instead of every combination."""
    seeds: Annotated[int, option(_SWEEP_PANEL, "N", between=(1, 1_000))] = 1
    """Train every setting N times, with the experiment's seed and those that follow it."""
    name: Annotated[str | None, option(_SWEEP_PANEL, "NAME", default="the experiment's")] = None
    """Name of the sweep, with which the names of its runs begin."""
    dry_run: Annotated[bool, option(_SWEEP_PANEL)] = False
    """Show the runs and how far they are, and train, score and write nothing."""
    fid: Annotated[bool, option(_COMPARISON_PANEL)] = False
    """Score the finished runs as `ncsnx fid` does, and compare them."""
    loss: Annotated[bool, option(_COMPARISON_PANEL)] = False
    """Measure the held-out loss of the finished runs as `ncsnx loss` does, and compare them."""
    n: Annotated[int | None, option(_COMPARISON_PANEL, "N", default="1000", between=SCORED)] = None
    """Images per run for `fid`."""

    def carry_out(self, work: "Work") -> "ComparedSettings":
        with work.interruptible():
            from ncsnx.config.codec import identity
            from ncsnx.ranks.joining import require_same
            from ncsnx.sweeps.points import sweep_points
            from ncsnx.sweeps.swept_runs import SweptRuns

            settings, changes = split_changes(self.values, "features")
            if not self.fid:
                self._refuse_idle(settings)
            name, target, origins = self._named()
            points = sweep_points(name, target.experiment, origins, changes, zipped=self.zip, seeds=self.seeds)
            require_same(work.ranks, "has another sweep", {point.run: identity(point.experiment) for point in points})
            runs = SweptRuns(
                name=name,
                points=points,
                folder=self.runs_folder(),
                data=self.data_folder(),
                job_of=lambda point: self._job(target, point, work),
                measures=self._measures(settings, work),
                require_scorable=lambda data: self._require_scorable(data, settings, work),
                work=work,
            )
            work.ranks.first(runs.require_free)
            if self.dry_run:
                work.ranks.end_others()
                return runs.status()
            left = [point for point in runs.own if not runs.is_trained(point)]
            runs.check(left)
        return self._compared(runs, left, work)

    def _device(self, work: "Work") -> str:
        """The device of this rank: a GPU of its own where there are several ranks. Raises UsageError."""
        return str(self.training_runtime(work.ranks).device)

    def _job(self, target: "Target", point: "SweepPoint", work: "Work") -> "TrainingJob":
        """The training of a point, as that of `ncsnx train`."""
        on_own_device = attrs.evolve(self, device=self._device(work))
        return on_own_device.job(
            experiment=point.experiment,
            origins=point.origins,
            file_text=target.file_text,
            file=None if target.file is None else Path(target.file),
            folder=self.runs_folder(),
            name=point.run,
            derived_from=target.run,
        )

    def _measures(
        self, settings: "Sequence[Override]", work: "Work"
    ) -> "Mapping[str, Callable[[Run, int, Work], Measurements]]":
        """`ncsnx fid` and `ncsnx loss` of one checkpoint of a run, where they are asked for."""
        from ncsnx.commands.fid import Fid
        from ncsnx.commands.loss import Loss

        def common(step: int) -> dict[str, Any]:
            where = {"data": self.data, "device": self._device(work), "threads": self.threads}
            return {"range": str(step), "compile": self.compile, **where}

        def distance(run: "Run", step: int, own: "Work") -> "Measurements":
            changes = [f"{one.path}={one.text}" for one in settings]
            n = 1000 if self.n is None else self.n
            chosen: dict[str, Any] = {"features": self.features, "reference": self.reference, "cache": self.cache}
            return Fid(run, changes, n=n, **chosen, **common(step)).carry_out(own)

        def held_out(run: "Run", step: int, own: "Work") -> "Measurements":
            return Loss(run, **common(step)).carry_out(own)

        measures = {}
        if self.fid:
            measures["fid"] = distance
        if self.loss:
            measures["loss"] = held_out
        return measures

    def _require_scorable(self, data: "Data", settings: "Sequence[Override]", work: "Work") -> None:
        """Raises NcsnxError if runs with such data can't be scored as it is asked for."""
        from ncsnx.evaluation.reference import reference_images
        from ncsnx.features.real_images import DataSource

        if self.fid:
            self.chosen_features(data, settings)
            reference_images(self.reference, DataSource(data=data, folder=self.data_folder()), work)

    def _compared(self, runs: "SweptRuns", left: "list[SweepPoint]", work: "Work") -> "ComparedSettings":
        """Trains what is left and scores; each rank its own, and rank 0 then reads the scores of all."""
        work.info(runs.announcement(left))
        failures = runs.together(list(runs.train(left)))
        if work.ranks.world > 1:
            runs.together(runs.measure(runs.own)[1])
        work.ranks.end_others()
        compared, problems = runs.compared()
        failed = [f"{counted(len(failures), 'run')} of the sweep failed: {'; '.join(failures)}"] if failures else []
        unscored = f"{counted(len(problems), 'run')} could not be scored: {'; '.join(problems)}"
        return attrs.evolve(compared, failures=[*failed, *([unscored] if problems else [])])

    def _named(self) -> "tuple[str, Target, Mapping[str, str]]":
        """Name of the sweep, its experiment or run, and the origins of its values. Raises UsageError, NcsnxError."""
        from ncsnx.config.codec import flatten
        from ncsnx.config.converter import unstructure
        from ncsnx.config.experiment import Experiment
        from ncsnx.runs.names import check_sweep_name
        from ncsnx.runs.targets import Target, changed_experiment, find_training, typed_target
        from ncsnx.sweeps.points import LONGEST_SWEEP_NAME

        if isinstance(self.experiment, Experiment):
            target = Target(*changed_experiment(self.experiment, []), "Python", None)
        else:
            target, _, _ = find_training(typed_target(self.experiment), self.runs_folder(), None, None)
        name, origins = target.experiment.name, target.origins
        if target.run is not None:
            name = target.run.name
            origins = {path: f"run {name}" for path, _ in flatten(unstructure(target.experiment))}
        return check_sweep_name(name if self.name is None else self.name, LONGEST_SWEEP_NAME), target, origins

    def _refuse_idle(self, settings: "Sequence[Override]") -> None:
        """Raises UsageError for settings of the features, or parameters of the score, if no score is asked for."""
        idle = [parameter(name) for name in ("n", "features", "reference") if getattr(self, name) is not None]
        if idle := [*idle, *(override.path for override in settings)]:
            raise UsageError(f"{idle[0]} is for the score", Hint("compute it", adds=spelled("fid")))


sweep = as_function(Sweep)
