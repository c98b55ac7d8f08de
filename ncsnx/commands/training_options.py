"""Groups of parameters of trainings."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import attrs

from ncsnx.commands import values
from ncsnx.commands.command import Panel, argument, option
from ncsnx.commands.groups import Compiling, InData, Noted, Place, Plain

if TYPE_CHECKING:
    from ncsnx.config.experiment import Experiment
    from ncsnx.jobs.training_job import TrainingJob
    from ncsnx.ranks.rank_group import RankGroup
    from ncsnx.runs.folder import Run
    from ncsnx.runtime import Runtime


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
