"""`ncsnx train`: trains an experiment, or resumes a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import attrs

from ncsnx.commands import values
from ncsnx.commands.command import Command, Panel, argument, as_function, command, option
from ncsnx.commands.groups import Compiling, FieldChanges, InData, InRuns, Noted, Place, Plain, changed_words

if TYPE_CHECKING:
    from ncsnx.config.experiment import Experiment
    from ncsnx.jobs.training_job import TrainedRun, TrainingJob
    from ncsnx.ranks.rank_group import RankGroup
    from ncsnx.runs.folder import Run
    from ncsnx.runs.selection import ModelFolder
    from ncsnx.runtime import Runtime
    from ncsnx.work import Work


@attrs.frozen(slots=False, kw_only=True)
class OfTraining:
    """An experiment to train, or a run to resume or start from."""

    experiment: Annotated[
        "Experiment | Run | Place",
        argument("EXPERIMENT|RUN", parse=values.name_or_path, complete="experiment or run"),
    ] = attrs.field(kw_only=False)
    """An experiment (a name of `ncsnx list`, FILE.py or FILE.py:NAME), or a run (runs/NAME, or a path)."""


@attrs.frozen(slots=False, kw_only=True)
class Training(Plain, Compiling, InData, Noted):
    """How a training runs; none of it is part of the experiment."""

    workers: Annotated[int, option(Panel.EXECUTION, "N", between=(0, 256))] = 0
    """Processes that read ahead data that doesn't fit in memory."""
    checkpointing: Annotated[bool, option(Panel.RARE)] = False
    """Compute activations again in the backward pass: a fifth of the memory, more time, the same bits."""
    report: Annotated[bool, option(Panel.OUTPUT)] = True
    """Renew the page RUN/report.html at checkpoints; see `ncsnx report`."""
    track: Annotated[
        str | Sequence[str] | None,
        option(Panel.OUTPUT, "TAGS", default="when resuming, as before", parse=values.words, complete="trackers"),
    ] = None
    """Send losses, samples and scores to experiment trackers: wandb, trackio, mlflow; '' sends nothing."""

    def training_runtime(self, ranks: "RankGroup") -> "Runtime":
        """The chosen runtime. Raises UsageError."""
        return self.runtime(
            ranks,
            compile=self.compile,
            checkpointing=self.checkpointing,
            workers=self.workers,
            plain=self.plain,
        )

    def job(self, **others: Any) -> "TrainingJob":
        """The training with these choices. others: its other fields."""
        from ncsnx.jobs.training_job import TrainingJob

        trackers = None if self.track is None else values.words(self.track)
        return TrainingJob(
            runtime=self.training_runtime,
            data=self.data_folder(),
            trackers=trackers,
            report=self.report,
            note=self.note,
            **others,
        )


@command("train", panel=Panel.TRAIN, order=10, then="no step was trained; repeat the command to train", is_shared=True)
@attrs.frozen(slots=False, kw_only=True, eq=False)
class Train(OfTraining, Training, InRuns, Command["TrainedRun"]):
    """Train an experiment; an existing run resumes.

    FIELD=VALUE changes the experiment: `ncsnx train digits optimizer=sgd optimizer.momentum=0.8 steps=50k`. A run
    resumes from its newest intact checkpoint. `ncsnx train runs/NAME` resumes it without repeating the changes; with
    `name` NEW it starts a new run from that configuration, and with `start` from the weights of another model.

    Ctrl-C, SIGTERM or a closed terminal (unless nohup is used) writes a checkpoint and ends with exit code 130, 143 or
    129. The same command resumes from there.
    """

    changes: FieldChanges = attrs.field(default=(), kw_only=False)
    """Changes to the experiment, such as model.width=64."""
    name: Annotated[str | None, option(Panel.OUTPUT, "NAME", "--run", default="the experiment's")] = None
    """Name of the run."""
    start: Annotated[
        "ModelFolder | Place | None", option(Panel.OUTPUT, "RUN", "--from", parse=values.name_or_path, complete="run")
    ] = None
    """Start a new run from the weights of this run or exported model; the network is then that of the weights."""
    budget: Annotated[str | None, option(Panel.EXECUTION, "TIME", "--for")] = None
    """Time to train for, such as 10m or 2h. Unless steps=N is given, a new run gets as many steps as fit, estimated
    from a quick timing; a cosine decay is adjusted to them where the experiment has one. When the time is up, a
    checkpoint is written, the exit code is 0, and the same command resumes."""

    def carry_out(self, work: "Work") -> "TrainedRun":
        with work.interruptible():
            from ncsnx.jobs.training_job import require_free
            from ncsnx.planning.budget import parse_time

            budget_s = None if self.budget is None else parse_time(self.budget)
            target = self._target(work)
            start = self._start(target["folder"] / target["name"], work)
            job = require_free(self.job(budget_s=budget_s, start=start, **target), work)

            from ncsnx.jobs.train_run import train_run
        return train_run(job, work)

    def _start(self, path: Path, work: "Work") -> "ModelFolder | None":
        """The model whose weights a new run starts from; where it is gone, the run at `path` that started from it."""
        from ncsnx.errors import NcsnxError
        from ncsnx.runs.folder import Run, read_origins
        from ncsnx.runs.manifest import checkpoints
        from ncsnx.runs.selection import open_model_folder

        if self.start is None:
            return None
        try:
            return open_model_folder(self.runs_folder(), self.start, work)
        except NcsnxError:
            run = Run(path)
            origin = read_origins(run.origins_path).get("initial_weights", "")
            if not checkpoints(run) or origin != f"weights of {Path(str(self.start)).name}":
                raise
            return run

    def _target(self, work: "Work") -> dict[str, Any]:
        """The experiment with its origins, and the run. Raises UsageError, NcsnxError."""
        from ncsnx.config.experiment import Experiment
        from ncsnx.runs.names import check_run_name
        from ncsnx.runs.targets import changed_experiment, find_training, typed_target

        changes = changed_words(self.changes)
        if isinstance(self.experiment, Experiment):
            experiment, origins = changed_experiment(self.experiment, changes)
            name = check_run_name(experiment.name if self.name is None else self.name)
            return {"experiment": experiment, "origins": origins, "folder": self.runs_folder(), "name": name}
        found, folder, name = find_training(typed_target(self.experiment), self.runs_folder(), changes, self.name)
        work.detail(f"experiment {found.experiment.name} from {found.where}")
        file = None if found.file is None else Path(found.file)
        target = {"experiment": found.experiment, "origins": found.origins, "file_text": found.file_text, "file": file}
        derived = found.run if found.run is not None and found.run.path != folder / name else None
        return {**target, "folder": folder, "name": name, "derived_from": derived}


train = as_function(Train)
