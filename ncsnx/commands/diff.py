"""`ncsnx diff`: differences between configurations."""

import re
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import attrs

from ncsnx.commands import values
from ncsnx.commands.command import Command, Panel, argument, command
from ncsnx.commands.groups import InRuns
from ncsnx.errors import Hint, UsageError
from ncsnx.quantities import counted
from ncsnx.results import Column, Lines, Table

if TYPE_CHECKING:
    from ncsnx.work import Work

_CHANGE = re.compile(r"[\w.]+=")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
"""Keys of the configurations in the JSON, in their order."""


@command("diff", panel=Panel.RUNS, order=150)
@attrs.frozen(slots=False, kw_only=True, eq=False)
class Diff(InRuns, Command[Lines]):
    """Show what differs between experiments or runs.

    Says for each value whether it changes the trained weights (identity). FIELD=VALUE changes the experiment or run
    before it: `ncsnx diff digits digits model.width=64`.
    """

    first: Annotated[str, argument("A", parse=values.name_or_path, complete="experiment or run")] = attrs.field(
        kw_only=False
    )
    """An experiment or a run (runs/NAME)."""
    others: Annotated[
        Sequence[str], argument("B", parse=values.name_or_path, complete="experiment or run", is_list=True)
    ] = attrs.field(kw_only=False)
    """More experiments or runs; FIELD=VALUE changes the one before it."""

    def carry_out(self, work: "Work") -> Lines:
        with work.interruptible():
            from ncsnx.config.codec import ABSENT, differing, shown
            from ncsnx.runs.targets import find_target

            folder, asked = self.runs_folder(), _asked([self.first, *self.others])
            declared = [find_target(name, folder, changes, work).declared for name, *changes in asked]
            differences = list(differing(*declared))
        facts = [
            {"path": path}
            | {key: value for key, value in zip(_LETTERS, found, strict=False) if value is not ABSENT}
            | {"identity": identity}
            for path, found, identity in differences
        ]
        rows = [[path, *map(shown, found), "yes" if identity else ""] for path, found, identity in differences]
        columns = [Column("field"), *(Column(shlex.join(words)) for words in asked), Column("identity")]
        table: list[Table | str] = [Table(columns=columns, rows=rows), ""] if rows else []
        count = counted(len(rows), "value")
        differ = f"{count} differ{'s' if len(rows) == 1 else ''}" if rows else "no value differs"
        verdict = "would differ" if any(identity for _, _, identity in differences) else "would be the same"
        return Lines([*table, f"{differ}; the trained weights {verdict}"], facts)


def _asked(words: list[str]) -> list[list[str]]:
    """The names, each with the changes that follow it. Raises UsageError unless there are 2 to 26."""

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
