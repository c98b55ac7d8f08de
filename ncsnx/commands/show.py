"""`ncsnx show`: a configuration, value by value, with the origin of each on request."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import attrs

from ncsnx.commands import values
from ncsnx.commands.command import Command, Panel, argument, command, option
from ncsnx.commands.groups import FieldChanges, InRuns, changed_words
from ncsnx.results import Column, Lines, Table

if TYPE_CHECKING:
    from ncsnx.work import Work


@command("show", panel=Panel.RUNS, order=140)
@attrs.frozen(slots=False, kw_only=True, eq=False)
class Show(InRuns, Command[Lines]):
    """Show a configuration with every default.

    FIELD=VALUE changes it as `ncsnx train` would: `ncsnx show digits optimizer=sgd model.width=64`. FIELD=? says what
    the field accepts: `ncsnx show digits 'sampler=?'`.
    """

    name: Annotated[str, argument("NAME", parse=values.name_or_path, complete="experiment or run")] = attrs.field(
        kw_only=False
    )
    """An experiment (or FILE.py, FILE.py:NAME), a run (runs/NAME) or an exported model (./DIR or hf://USER/MODEL)."""
    changes: FieldChanges = attrs.field(default=(), kw_only=False)
    """Changes to the experiment, such as model.width=64."""
    origins: Annotated[bool, option(Panel.OUTPUT)] = False
    """Show where each value comes from."""

    def carry_out(self, work: "Work") -> Lines:
        with work.interruptible():
            from ncsnx.config.codec import flatten, identifying_paths, identity, shown, to_json
            from ncsnx.config.converter import unstructure
            from ncsnx.config.loading import relative
            from ncsnx.errors import shortened
            from ncsnx.runs.targets import find_target

            target = find_target(self.name, self.runs_folder(), changed_words(self.changes), work)
        declared = target.declared
        saved = {**to_json(declared), "identity": identity(declared)}
        facts = {"identity": identity(declared), "from": relative(target.where)}
        identifying = identifying_paths(declared)
        columns, rows = [Column("field"), Column("value"), Column("identity")], []
        for path, value in flatten(unstructure(declared)):
            rows.append([path, shortened(shown(value)), "yes" if path in identifying else ""])
        if self.origins:
            saved["origins"] = origins = {path: relative(origin) for path, origin in target.origins.items()}
            known, files = _shortened(origins)
            columns.append(Column("origin"))
            rows = [[*row, known.get(row[0], "unknown")] for row in rows]
            facts |= files
        width = max(map(len, facts))
        lines: list[Table | str] = [
            Table(columns=columns, rows=rows),
            "\nvalues marked yes are the identity: they determine the trained weights",
            "\n".join(f"{name:<{width}}  {fact}" for name, fact in facts.items()),
        ]
        return Lines(lines, saved)


def _shortened(origins: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The origins with absolute paths shortened to their file's name, and file name → path."""
    paths = [Path(origin.rpartition(":")[0]) for origin in origins.values() if origin.startswith("/")]
    shortened = {path: Path(origin).name if origin.startswith("/") else origin for path, origin in origins.items()}
    return shortened, {path.name: str(path) for path in paths}
