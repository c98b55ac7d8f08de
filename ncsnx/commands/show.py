"""`ncsnx show`: a configuration, value by value, with the origin of each on request."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import attrs

from ncsnx.commands import values
from ncsnx.commands.command import Command, Panel, argument, command, option
from ncsnx.commands.groups import FieldChanges, InRuns, changed_words
from ncsnx.results import Column, Result, Table

if TYPE_CHECKING:
    from ncsnx.runs.targets import Target
    from ncsnx.work import Work


@command("show", panel=Panel.RUNS, place=140)
@attrs.frozen(slots=False, kw_only=True, eq=False)
class Show(InRuns, Command["Configuration"]):
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

    def carry_out(self, work: "Work") -> "Configuration":
        with work.at_once():
            from ncsnx.runs.targets import find_target

            target = find_target(self.name, self.runs_folder(), changed_words(self.changes), work)
            return Configuration(target, self.origins)


@attrs.frozen(repr=False)
class Configuration(Result):
    """An experiment's values."""

    target: "Target"
    with_origins: bool

    @property
    def _origins(self) -> dict[str, str]:
        from ncsnx.config.loading import relative

        return {path: relative(origin) for path, origin in self.target.origins.items()}

    def shown(self) -> Sequence[Table | str]:
        from ncsnx.config.codec import flatten, identifying_paths, identity, shown
        from ncsnx.config.converter import unstructure
        from ncsnx.config.loading import relative
        from ncsnx.errors import shortened

        declared = self.target.declared
        known, files = _shortened(self._origins)
        identifying = identifying_paths(declared)
        columns, rows = [Column("field"), Column("value"), Column("identity")], []
        for path, value in flatten(unstructure(declared)):
            row = [path, shortened(shown(value)), "yes" if path in identifying else ""]
            rows.append([*row, known.get(path, "unknown")] if self.with_origins else row)
        facts = {"identity": identity(declared), "from": relative(self.target.where)}
        facts |= files if self.with_origins else {}
        width = max(map(len, facts))
        return [
            Table(columns=[*columns, *([Column("origin")] if self.with_origins else [])], rows=rows),
            "\nvalues marked yes are the identity: they determine the trained weights",
            "\n".join(f"{name:<{width}}  {fact}" for name, fact in facts.items()),
        ]

    def to_json(self) -> object:
        from ncsnx.config.codec import identity, to_json

        declared = self.target.declared
        saved = {**to_json(declared), "identity": identity(declared)}
        return {**saved, "origins": self._origins} if self.with_origins else saved


def _shortened(origins: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The origins with absolute paths shortened to their file's name, and file name → path."""
    paths = [Path(origin.rpartition(":")[0]) for origin in origins.values() if origin.startswith("/")]
    shortened = {path: Path(origin).name if origin.startswith("/") else origin for path, origin in origins.items()}
    return shortened, {path.name: str(path) for path in paths}
