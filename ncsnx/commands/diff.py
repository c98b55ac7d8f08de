"""`ncsnx diff`: differences between configurations."""

import re
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import attrs

from ncsnx.commands import values
from ncsnx.commands.command import Command, Panel, argument, command
from ncsnx.commands.groups import InRuns
from ncsnx.errors import Hint, UsageError
from ncsnx.quantities import counted
from ncsnx.results import Column, Result, Table

if TYPE_CHECKING:
    from ncsnx.work import Work

_CHANGE = re.compile(r"[\w.]+=")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
"""Keys of the configurations in the JSON, in their order."""


@command("diff", panel=Panel.RUNS, place=150)
@attrs.frozen(slots=False, kw_only=True, eq=False)
class Diff(InRuns, Command["Differences"]):
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

    def carry_out(self, work: "Work") -> "Differences":
        with work.at_once():
            from ncsnx.config.codec import differing
            from ncsnx.runs.targets import find_target

            folder, asked = self.runs_folder(), _asked([self.first, *self.others])
            found = [find_target(name, folder, changes, work).declared for name, *changes in asked]
            return Differences([shlex.join(words) for words in asked], list(differing(*found)))


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


@attrs.frozen(repr=False)
class Differences(Result):
    """Values that differ between configurations."""

    names: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Any], bool]]
    """Dotted path, value of each, whether it is part of the identity."""

    def shown(self) -> Sequence[Table | str]:
        from ncsnx.config.codec import shown

        rows = [[path, *map(shown, found), "yes" if identity else ""] for path, found, identity in self.rows]
        columns = [Column("field"), *map(Column, self.names), Column("identity")]
        count = counted(len(rows), "value")
        differ = f"{count} differ{'s' if len(rows) == 1 else ''}" if rows else "no value differs"
        verdict = "would differ" if any(identity for _, _, identity in self.rows) else "would be the same"
        table: list[Table | str] = [Table(columns=columns, rows=rows), ""] if rows else []
        return [*table, f"{differ}; the trained weights {verdict}"]

    def to_json(self) -> object:
        from ncsnx.config.codec import ABSENT

        return [
            {
                "path": path,
                **{key: value for key, value in zip(_LETTERS, found, strict=False) if value is not ABSENT},
                "identity": identity,
            }
            for path, found, identity in self.rows
        ]
