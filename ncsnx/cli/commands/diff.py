"""`ncsnx diff`: differences between two configurations."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ncsnx.cli import options
from ncsnx.cli.command_registry import RUNS_PANEL, command
from ncsnx.cli.path_parameters import a_name_or_path
from ncsnx.cli.session import FROM_THE_START, session
from ncsnx.quantities import counted

if TYPE_CHECKING:
    from ncsnx.config.differences import Difference


@command("diff", panel=RUNS_PANEL, place=150)
def diff_command(
    first: Annotated[
        str, typer.Argument(metavar="A", parser=a_name_or_path, help="An experiment or a run (runs/NAME).")
    ],
    second: Annotated[str, typer.Argument(metavar="B", parser=a_name_or_path, help="Another experiment or run.")],
    runs: options.Runs = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Show what differs between two experiments or runs.

    Says for each value whether it changes the trained weights (identity).
    """
    with session(FROM_THE_START, verbose=verbose) as messages:
        from ncsnx.cli.parsing.targets import find_target
        from ncsnx.config.differences import differences, shown
        from ncsnx.console.tables import Column, table
        from ncsnx.runs.names import runs_folder

        folder = runs_folder(runs)
        rows = differences(find_target(first, folder).experiment, find_target(second, folder).experiment)
        if json:
            messages.json([_as_json(row) for row in rows])
            return
        if rows:
            table(
                messages,
                [Column("value"), Column(first), Column(second), Column("identity")],
                [[row.path, shown(row.first), shown(row.second), "yes" if row.identity else ""] for row in rows],
            )
            messages.data("")
        count = f"{counted(len(rows), 'value')} differ{'s' if len(rows) == 1 else ''}" if rows else "no value differs"
        verdict = "would differ" if any(row.identity for row in rows) else "would be the same"
        messages.data(f"{count}; the trained weights {verdict}")


def _as_json(row: "Difference") -> dict[str, Any]:
    """A difference with `a` and `b`; a side that lacks the value is left out."""
    from ncsnx.config.differences import ABSENT

    values = {"path": row.path, "a": row.first, "b": row.second, "identity": row.identity}
    return {key: value for key, value in values.items() if value is not ABSENT}
