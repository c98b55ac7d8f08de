"""`ncsnx track`: sends a run to experiment trackers, after training."""

from typing import TYPE_CHECKING, Annotated

import typer

from ncsnx.cli import options
from ncsnx.cli.command_registry import RUNS_PANEL, command
from ncsnx.cli.session import session

if TYPE_CHECKING:
    from ncsnx.runs.folder import Run


@command("track", panel=RUNS_PANEL, place=155)
def track_command(
    run: options.RunName,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="TAGS",
            help="Trackers: wandb, trackio, mlflow.",
            show_default="those of the run",
            rich_help_panel=options.OUTPUT_PANEL,
        ),
    ] = None,
    runs: options.Runs = None,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Send a run to experiment trackers.

    Sends configuration, losses, grids of samples and scores, each once: what `ncsnx train --track` couldn't send,
    scores that were measured later, or all of a run that wasn't tracked.
    """
    with session("the same command sends the rest", verbose=verbose, quiet=quiet) as messages:
        from ncsnx.config.foreign import error_in_words
        from ncsnx.errors import NcsnxError
        from ncsnx.runs.folder import open_run
        from ncsnx.runs.names import runs_folder
        from ncsnx.stopping import StopRequest
        from ncsnx.tracking.choosing import open_trackers
        from ncsnx.tracking.sending import send_run

        place = open_run(runs_folder(runs), run)
        tags, warnings = _tags(place, to)
        for warning in warnings:
            messages.warning(warning)
        open_trackers(place)
        failed = False
        messages.info(f"sending {place.path} to {', '.join(tags)}")
        with StopRequest() as stop, stop.at_once():
            for tag in tags:
                try:
                    hint = send_run(place, tag)
                except Exception as error:  # of any package
                    failed = True
                    messages.error(f"{tag}: {error if isinstance(error, NcsnxError) else error_in_words(error)}")
                else:
                    messages.info(f"{tag} has everything{f': {hint}' if hint else ''}")
        if failed:
            raise typer.Exit(1)


def _tags(place: "Run", to: str | None) -> tuple[tuple[str, ...], list[str]]:
    """The trackers, and warnings. Raises NcsnxError if there are none."""
    from ncsnx.errors import Hint, UsageError
    from ncsnx.tracking.choosing import known_trackers, recorded_trackers, split_tags

    if to is not None:
        return known_trackers(split_tags(to), "to"), []
    tags, warnings = recorded_trackers(place)
    if not tags:
        why = "".join(f"; {warning}" for warning in warnings)
        raise UsageError(
            f"{place.path} uses no trackers{why}", Hint("name some", f"ncsnx track {place.typed} --to TAGS")
        )
    return tags, warnings
