"""`ncsnx diff`: differences between configurations."""

import re
import shlex
from typing import Annotated

import typer

from ncsnx.cli import options
from ncsnx.cli.command_registry import RUNS_PANEL, command
from ncsnx.cli.completion import complete_experiment_or_run
from ncsnx.cli.parameters import a_name_or_path
from ncsnx.cli.session import FROM_THE_START, session
from ncsnx.console.working import work_of
from ncsnx.quantities import counted

_CHANGE = re.compile(r"[\w.]+=")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
"""Keys of the configurations in the JSON, in their order."""


@command("diff", panel=RUNS_PANEL, place=150)
def diff_command(
    first: Annotated[
        str,
        typer.Argument(
            metavar="A",
            parser=a_name_or_path,
            autocompletion=complete_experiment_or_run,
            help="An experiment or a run (runs/NAME).",
        ),
    ],
    others: Annotated[
        list[str],
        typer.Argument(
            metavar="B",
            parser=a_name_or_path,
            autocompletion=complete_experiment_or_run,
            help="More experiments or runs; FIELD=VALUE changes the one before it.",
        ),
    ],
    runs: options.Runs = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Show what differs between experiments or runs.

    Says for each value whether it changes the trained weights (identity). FIELD=VALUE changes the experiment or run
    before it: `ncsnx diff digits digits model.width=64`.
    """
    with session(FROM_THE_START, verbose=verbose) as messages:
        from ncsnx.config.differences import ABSENT, differing, shown
        from ncsnx.console.tables import Column, table
        from ncsnx.jobs.targets import find_target
        from ncsnx.runs.names import runs_folder

        folder, asked, work = runs_folder(runs), _asked([first, *others]), work_of(messages)
        rows = differing(*(find_target(name, folder, changes, work).experiment for name, *changes in asked))
        if json:
            messages.json(
                [
                    {
                        "path": path,
                        **{key: value for key, value in zip(_LETTERS, values, strict=False) if value is not ABSENT},
                        "identity": identity,
                    }
                    for path, values, identity in rows
                ]
            )
            return
        if rows:
            titles = [shlex.join(one) for one in asked]
            table(
                messages,
                [Column("value"), *map(Column, titles), Column("identity")],
                [[path, *map(shown, values), "yes" if identity else ""] for path, values, identity in rows],
            )
            messages.data("")
        count = f"{counted(len(rows), 'value')} differ{'s' if len(rows) == 1 else ''}" if rows else "no value differs"
        verdict = "would differ" if any(identity for _, _, identity in rows) else "would be the same"
        messages.data(f"{count}; the trained weights {verdict}")


def _asked(words: list[str]) -> list[list[str]]:
    """The names, each with the changes that follow it. Raises UsageError unless there are 2 to 26."""
    from ncsnx.errors import Hint, UsageError

    asked: list[list[str]] = []
    for word in words:
        if asked and _CHANGE.match(word):
            asked[-1].append(word)
        else:
            asked.append([word])
    if not 1 < len(asked) <= len(_LETTERS):
        example = shlex.join(["ncsnx", "diff", asked[0][0], *asked[0]])
        hints = [Hint("such as", example)] if len(asked) == 1 else []
        raise UsageError(f"expected 2 experiments or runs, or up to {len(_LETTERS)}; found {len(asked)}", *hints)
    return asked
