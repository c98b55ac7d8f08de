"""`ncsnx steps`: the checkpoints of a run, one per line."""

import attrs

from ncsnx.commands.command import Command, command
from ncsnx.commands.groups import OfRun
from ncsnx.results import Lines
from ncsnx.runs.manifest import checkpoints
from ncsnx.work import Work


@command("steps")
@attrs.frozen(slots=False, kw_only=True)
class Steps(OfRun, Command[Lines]):
    """List the steps of a run's checkpoints, one per line."""

    def carry_out(self, work: Work) -> Lines:
        steps = checkpoints(self.opened())
        return Lines(list(map(str, steps)), steps)
