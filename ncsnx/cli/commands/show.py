"""`ncsnx show`: a configuration, value by value, with the origin of each on request."""

from typing import Annotated

import typer

from ncsnx.cli import options
from ncsnx.cli.command_registry import RUNS_PANEL, command
from ncsnx.cli.path_parameters import a_name_or_path
from ncsnx.cli.session import FROM_THE_START, session


@command("show", panel=RUNS_PANEL, place=140)
def show_command(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            parser=a_name_or_path,
            help="An experiment (or FILE.py, FILE.py:NAME), a run (runs/NAME) or an exported model (./DIR).",
        ),
    ],
    overrides: options.ExperimentChanges = None,
    runs: options.Runs = None,
    origins: Annotated[
        bool, typer.Option("--origins", help="Show where each value was written.", rich_help_panel=options.OUTPUT_PANEL)
    ] = False,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Show a configuration with every default.

    FIELD=VALUE changes it as `ncsnx train` would: `ncsnx show digits optimizer=sgd model.width=64`.
    """
    with session(FROM_THE_START, verbose=verbose) as messages:
        from ncsnx.cli.parsing.targets import find_target
        from ncsnx.config.codec import flatten, identifying_paths, identity, to_json, unstructure
        from ncsnx.config.differences import shown
        from ncsnx.config.registry import relative
        from ncsnx.console.tables import Column, table
        from ncsnx.runs.names import runs_folder

        target = find_target(name, runs_folder(runs), overrides)
        known = {path: relative(origin) for path, origin in target.origins.items()}
        if json:
            saved = {**to_json(target.experiment), "identity": identity(target.experiment)}
            messages.json({**saved, "origins": known} if origins else saved)
            return
        identifying = identifying_paths(target.experiment)
        columns = [Column("value"), Column(""), Column("identity"), *([Column("origin")] if origins else [])]
        rows = []
        for path, value in flatten(unstructure(target.experiment)):
            row = [path, shown(value), "yes" if path in identifying else ""]
            rows.append([*row, known.get(path, "unknown")] if origins else row)
        table(messages, columns, rows)
        messages.data(f"\nidentity {identity(target.experiment)}\nfrom     {relative(target.where)}")
