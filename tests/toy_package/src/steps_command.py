"""`ncsnx steps`: the checkpoints of a run, one per line."""

from ncsnx.cli import options
from ncsnx.cli.command_registry import command
from ncsnx.cli.session import session


@command("steps")
def steps_command(
    run: options.RunName, runs: options.Runs = None, verbose: options.Verbose = False, quiet: options.Quiet = False
) -> None:
    """List the steps of a run's checkpoints, one per line."""
    with session("it wrote nothing", verbose=verbose, quiet=quiet) as messages:
        from ncsnx.runs.folder import open_run
        from ncsnx.runs.manifest import checkpoints
        from ncsnx.runs.names import runs_folder

        for step in checkpoints(open_run(runs_folder(runs), run)):
            messages.data(str(step))
