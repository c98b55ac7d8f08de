"""`ncsnx track`: sends a run to experiment trackers, after training."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import attrs

from ncsnx.commands import values
from ncsnx.commands.command import Command, Panel, command, option
from ncsnx.commands.groups import OfRun
from ncsnx.errors import Hint, NcsnxError, UsageError
from ncsnx.results import Result

if TYPE_CHECKING:
    from ncsnx.runs.folder import Run
    from ncsnx.work import Work


@command("track", panel=Panel.RUNS, order=156, then="the same command sends the rest")
@attrs.frozen(slots=False, kw_only=True, eq=False)
class Track(OfRun, Command["SentRun"]):
    """Send a run to experiment trackers.

    Sends configuration, losses, grids of samples and scores, each once: what `ncsnx train --track` couldn't send,
    scores that were measured later, or all of a run that wasn't tracked.
    """

    to: Annotated[
        str | Sequence[str] | None,
        option(Panel.OUTPUT, "TAGS", default="those of the run", parse=values.words, complete="trackers"),
    ] = None
    """Trackers: wandb, trackio, mlflow."""

    def carry_out(self, work: "Work") -> "SentRun":
        with work.interruptible():
            from ncsnx.config.user_code import error_in_words
            from ncsnx.tracking.sending import send_run

            run, failed = self.opened(), list[str]()
            tags = self._tags(run)
            work.info(f"sending {run.path} to {', '.join(tags)}")
            for tag in tags:
                try:
                    hint = send_run(run, tag)
                except Exception as error:  # of any package
                    failed.append(f"{tag}: {error if isinstance(error, NcsnxError) else error_in_words(error)}")
                else:
                    work.info(f"{tag} has everything{f': {hint}' if hint else ''}")
        return SentRun(tags, failed)

    def _tags(self, run: "Run") -> tuple[str, ...]:
        """The trackers. Raises UsageError if there are none."""
        from ncsnx.tracking.tracker import known_trackers, noted_trackers

        tags = noted_trackers(run) if self.to is None else values.words(self.to)
        if not tags:
            hint = Hint("name some", f"ncsnx track {run.cli_name} --to TAGS")
            raise UsageError(f"{run.path} has no record in a tracker", hint)
        return known_trackers(tags, "to")


@attrs.frozen(repr=False)
class SentRun(Result):
    """Trackers that have everything of a run, and those that failed."""

    tags: Sequence[str]
    failed: Sequence[str]
    """A line for each tracker that failed."""

    def problem(self) -> NcsnxError | None:
        return NcsnxError("\n".join(self.failed)) if self.failed else None

    def to_json(self) -> object:
        return {"trackers": self.tags, "failed": self.failed}
