"""`ncsnx diff`: what differs between two configurations."""

from typing import Annotated

import typer

from ncsnx.cli import options
from ncsnx.cli.session import session


def diff_command(
    first: Annotated[str, typer.Argument(help="An experiment or a run (runs/NAME).")],
    second: Annotated[str, typer.Argument(help="Another one.")],
    runs: options.Runs = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Show what differs between two experiments or runs, and whether it changes the trained weights."""
    with session(verbose=verbose) as messages:
        from ncsnx.cli.targets import find_target
        from ncsnx.config.comparison import differences, shown
        from ncsnx.console.tables import Column, table
        from ncsnx.runs.names import runs_folder

        folder = runs_folder(runs)
        rows = differences(find_target(first, folder).experiment, find_target(second, folder).experiment)
        if json:
            messages.json(
                [{"path": row.path, "a": row.first, "b": row.second, "identity": row.identity} for row in rows]
            )
            return
        if rows:
            table(
                messages,
                [Column("value"), Column(first), Column(second), Column("identity")],
                [[row.path, shown(row.first), shown(row.second), "yes" if row.identity else ""] for row in rows],
            )
        same = not any(row.identity for row in rows)
        verdict = "the same weights" if same else "different weights"
        messages.data(f"{'' if not rows else chr(10)}{len(rows)} values differ; both train {verdict}")
