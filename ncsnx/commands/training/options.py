"""Groups of parameters of trainings."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import attrs

from ncsnx.commands import values
from ncsnx.commands.command import Panel, argument, option
from ncsnx.commands.groups import SCORED, Compared, Compiling, InRuns, Noted, Place, Plain

if TYPE_CHECKING:
    from ncsnx.config.experiment import Experiment
    from ncsnx.ranks.rank_group import RankGroup
    from ncsnx.runs.folder import Run
    from ncsnx.runtime import Runtime

_COMPARISON_PANEL = "Comparison"


@attrs.frozen(slots=False, kw_only=True)
class OfTraining:
    """An experiment to train, or a run to resume or start from."""

    experiment: Annotated[
        "Experiment | Run | Place",
        argument("EXPERIMENT|RUN", parse=values.name_or_path, complete="experiment or run"),
    ] = attrs.field(kw_only=False)
    """An experiment (a name of `ncsnx list`, FILE.py or FILE.py:NAME), or a run (runs/NAME, or a path)."""


@attrs.frozen(slots=False, kw_only=True)
class Training(Plain, Compiling, Noted):
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

    def trackers(self) -> Sequence[str] | None:
        """Tags of the trackers; None: those that have a record of the run."""
        return None if self.track is None else values.words(self.track)


@attrs.frozen(slots=False, kw_only=True)
class TrainedAndScored(Training, InRuns, Compared):
    """How several runs are trained and compared."""

    fid: Annotated[bool, option(_COMPARISON_PANEL)] = False
    """Score the finished runs as `ncsnx fid` does, and compare them."""
    loss: Annotated[bool, option(_COMPARISON_PANEL)] = False
    """Measure the held-out loss of the finished runs as `ncsnx loss` does, and compare them."""
    n: Annotated[int | None, option(_COMPARISON_PANEL, "N", default="1000", between=SCORED)] = None
    """Images per run for `fid`."""

    @property
    def images(self) -> int:
        """Images per run for the distance."""
        return 1000 if self.n is None else self.n
