"""A training as a job: what is trained, how and where, what its caller shows, and its result. Imports no torch."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import attrs

from ncsnx.config.experiment import Experiment
from ncsnx.notebooks import facts, heading
from ncsnx.quantities import number
from ncsnx.ranks.rank_group import RankGroup
from ncsnx.runs.folder import Run, open_run
from ncsnx.training.observer import Pause, TrainingObserver
from ncsnx.work import Work

if TYPE_CHECKING:
    from ncsnx.runtime import Runtime


@attrs.frozen(kw_only=True)
class TrainingOptions:
    """How a training runs; none of it is part of the experiment."""

    device: str = "auto"
    threads: int | None = None
    """CPU threads of torch; None: as many as torch chooses."""
    plain: bool = False
    """Run the network as it is written, without the exact rewrites."""
    compile: bool = False
    graphs: bool = False
    """Replay training steps as CUDA graphs."""
    checkpointing: bool = False
    """Compute activations again in the backward pass."""
    workers: int = 0
    """Processes that read data ahead; 0: the main process reads."""
    report: bool = True
    """Renew the run's report.html at checkpoints."""
    track: Sequence[str] | None = None
    """Tags of the trackers that the run is sent to; None: those of its last start."""
    patch: bool = True
    """Record uncommitted changes of the git repository that holds the experiment's file."""
    note: str = ""

    def runtime(self, ranks: RankGroup) -> "Runtime":
        """The chosen runtime. Raises UsageError."""
        from ncsnx.runtime import Runtime

        return Runtime.choose(
            device=self.device,
            threads=self.threads,
            plain=self.plain,
            compile=self.compile,
            graphs=self.graphs,
            checkpointing=self.checkpointing,
            workers=self.workers,
            ranks=ranks,
        )


@attrs.frozen(kw_only=True)
class TrainingJob:
    """An experiment to train in a run, new or existing."""

    experiment: Experiment
    origins: Mapping[str, str] = attrs.field(factory=dict)
    """Dotted path → 'default', 'FILE:LINE' or where else the value comes from; recorded in the run."""
    source: str | None = None
    """Text of the experiment's file, which a new run keeps."""
    file: Path | None = None
    """The experiment's file, whose git state is recorded; None: that of the current folder."""
    folder: Path
    """Folder of runs."""
    name: str
    """Name of the run in it, checked by `ncsnx.runs.names.check_run_name`."""
    data: Path | None = None
    """Folder of the data sets; None: as `ncsnx.data.data_folder` finds it."""
    options: TrainingOptions = TrainingOptions()

    @property
    def path(self) -> Path:
        """Folder of the run, which need not exist."""
        return self.folder / self.name

    def existing(self) -> Run | None:
        """The run, if its folder exists. Raises NcsnxError if that is no run."""
        # by its path, so that no run of that name elsewhere is found
        return open_run(self.folder, str(self.path)) if self.path.exists() else None


class TrainingDisplay(TrainingObserver, Protocol):
    """Shows a training while it runs."""

    def start(self, facts: Mapping[str, str]) -> None:
        """Shows facts about the training: label → value."""

    def finish(self, outcome: str = "finished") -> None:
        """Closes the display with a summary that begins with `outcome`."""


class TrainingViewer(Protocol):
    """Opens the display of a training for a block."""

    def __call__(
        self,
        *,
        total_steps: int,
        start_step: int,
        batch_size: int,
        folder: Path | None = None,
        pauses: Sequence[Pause] = (),
    ) -> AbstractContextManager[TrainingDisplay]:
        """batch_size: images per optimizer step. folder: the run."""


@attrs.frozen(kw_only=True)
class TrainingConsole:
    """The side of the caller: messages, log and display of a training."""

    work: Work
    """Messages, the progress of reading data, and the ranks that share the training."""
    attach: Callable[[Path], None]
    """Begins to append messages, and those so far, to a log file."""
    view: TrainingViewer


@attrs.frozen(kw_only=True)
class TrainingResult:
    """A training that reached its experiment's last step."""

    run: Run
    start_step: int
    """Step that it started from: 0 for a new run."""
    step: int
    """Step reached."""
    loss: float | None
    """The last training loss that was logged; None if none was."""

    def _repr_html_(self) -> str:
        loss = "none logged" if self.loss is None else number(self.loss)
        steps = f"{self.step:,}" + (f" (from {self.start_step:,})" if self.start_step else "")
        return heading("trained", self.run.name) + facts({"steps": steps, "loss": loss, "files": str(self.run.path)})
