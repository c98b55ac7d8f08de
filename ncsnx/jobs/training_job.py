"""A training as a job: what is trained, how and where, and its result. Imports no torch."""

import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from ncsnx.config.codec import flatten
from ncsnx.config.converter import unstructure
from ncsnx.config.data_sets import cuts_patches
from ncsnx.config.experiment import Experiment
from ncsnx.quantities import counted, number
from ncsnx.ranks.joining import require_same
from ncsnx.results import Result
from ncsnx.runs.folder import Run, open_run
from ncsnx.runs.manifest import checkpoints
from ncsnx.runs.metrics_log import MetricsLog
from ncsnx.runs.names import runs_folder
from ncsnx.runs.selection import ModelFolder
from ncsnx.runs.writer_lock import writer_lock
from ncsnx.tracking.tracker import known_trackers, noted_trackers
from ncsnx.work import Work

if TYPE_CHECKING:
    from ncsnx.ranks.rank_group import RankGroup
    from ncsnx.runtime import Runtime


@attrs.frozen(kw_only=True)
class TrainingJob:
    """An experiment to train in a run, new or existing."""

    experiment: Experiment
    origins: Mapping[str, str] = attrs.field(factory=dict)
    """Dotted path → 'default', 'FILE:LINE' or where else the value comes from; recorded in the run."""
    file_text: str | None = None
    """Text of the experiment's file, which a new run keeps."""
    file: Path | None = None
    """The experiment's file, whose git state is recorded; None: that of the current folder."""
    folder: Path
    """Folder of runs."""
    name: str
    """Name of the run in it, checked by `ncsnx.runs.names.check_run_name`."""
    data: Path
    """Folder of the data sets."""
    runtime: "Callable[[RankGroup], Runtime]"
    """The runtime that was chosen, for the ranks that train together."""
    start: ModelFolder | None = None
    """The run or exported model whose weights a new training starts from."""
    derived_from: Run | None = None
    """The run whose configuration a new run begins from, if any."""
    budget_s: float | None = None
    """Seconds to train for; None: until the last step."""
    trackers: Sequence[str] | None = None
    """Tags of the trackers that the run is sent to; None: those that have a record of it."""
    report: bool = True
    """Whether the page RUN/report.html is renewed at checkpoints."""
    note: str = ""
    """A remark that the run keeps."""

    @property
    def path(self) -> Path:
        """Folder of the run, which need not exist."""
        return self.folder / self.name

    def existing(self) -> Run | None:
        """The run, if its folder exists. Raises NcsnxError if that is no run."""
        # by its path, so that no run of that name elsewhere is found
        return open_run(self.folder, str(self.path)) if self.path.exists() else None


def require_free(job: TrainingJob, work: Work) -> TrainingJob:
    """The job with its trackers; refuses what can be refused before torch, which takes seconds, is imported.

    Raises NcsnxError for ranks with other experiments, a run that another process writes, and unknown trackers.
    """

    def trackers() -> Sequence[str]:
        if (run := job.existing()) is not None:
            with writer_lock(run):
                pass  # the training takes the lock that counts
        return noted_trackers(Run(job.path)) if job.trackers is None else known_trackers(job.trackers)

    require_same(work.ranks, "has another experiment", dict(flatten(unstructure(job.experiment))))
    return attrs.evolve(job, trackers=work.ranks.first(trackers))


@attrs.frozen(kw_only=True, repr=False)
class TrainedRun(Result):
    """A training that reached its experiment's last step, or the end of its time."""

    run: Run
    start_step: int
    """Step that it started from: 0 for a new run."""
    step: int
    """Step reached."""
    loss: float | None
    """The last training loss that was logged; None if none was."""

    def closing(self) -> Sequence[str]:
        run, steps = self.run, checkpoints(self.run)
        lines = [f"grids of samples: {run.snapshots}"] if run.snapshots.is_dir() else []
        lines += [f"checkpoints: {len(steps):,}, the newest at step {steps[-1]:,}" if steps else "no checkpoint"]
        lines += [f"report: {run.report_path}"] if run.report_path.is_file() else []
        name = shlex.quote(run.name) if run.path.parent == runs_folder() else run.cli_path
        chosen: int | str = "latest"
        if steps and (rise := rise_of_held_out_loss(run)) is not None:
            before, loss, last = rise
            lines.append(f"held-out loss: lowest at step {before:,} ({number(loss)}), {number(last)} at the end")
            chosen = max((step for step in steps if step <= before), default=min(steps))
        if cuts_patches(run.experiment().data):
            return [*lines, f"next: ncsnx restore {name} --ckpt {chosen} --denoise PICTURE"]
        return [*lines, f"next: ncsnx sample {name} --ckpt {chosen} --n 64"]

    def to_json(self) -> object:
        return {"run": str(self.run.path), "start_step": self.start_step, "step": self.step, "loss": self.loss}

    def heading(self) -> tuple[str, str]:
        return "trained", self.run.name

    def remarks(self) -> Sequence[str]:
        since = f" (from {self.start_step:,})" if self.start_step else ""
        loss = "no loss logged" if self.loss is None else f"loss {number(self.loss)}"
        return [f"{counted(self.step, 'step')}{since}, {loss}; files in {self.run.path}"]


def rise_of_held_out_loss(run: Run) -> tuple[int, float, float] | None:
    """(step of the lowest held-out loss, that loss, the last one) if the last one is over 5 % higher, else None.

    The loss is that of one batch with the same noise at each step. Raises NcsnxError for metrics that can't be read.
    """
    # JSON has no NaN or infinity, so that a loss that diverged is None
    measured = [one for one in MetricsLog(run).read() if "held_out" in one]
    found = [(math.inf if one["held_out"] is None else one["held_out"], one["step"]) for one in measured]
    if not found:
        return None
    (lowest, step), (last, _) = min(found), found[-1]
    return (step, lowest, last) if last - lowest > _MOST_RISE * abs(lowest) else None


_MOST_RISE = 0.05
