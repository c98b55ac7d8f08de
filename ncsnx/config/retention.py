"""Which checkpoints of a run stay, and which of them stay whole. By default all do."""

import math

import attrs

from ncsnx.config import checks
from ncsnx.config.variants import Config
from ncsnx.quantities import counted


@attrs.frozen(kw_only=True)
class Retention(Config):
    """A checkpoint stays if one of the rules keeps it, and without a rule all stay. The best and the last always do."""

    keep_last: int | None = attrs.field(default=None, validator=checks.when_given(checks.between(1, 1_000_000)))
    """Keep the last so many."""
    keep_every: int | None = attrs.field(default=None, validator=checks.when_given(checks.between(1, 1_000_000_000)))
    """Keep those whose step is a multiple of it."""
    keep_best: bool = False
    """On its own: of the checkpoints that were scored, keep the best alone; those without a score stay. Beside another
    rule it changes nothing, since no rule removes the best."""
    optimizer_last: int | None = attrs.field(default=None, validator=checks.when_given(checks.between(1, 1_000_000)))
    """Keep the optimizer's state, which only training needs, in the last so many. 1 leaves nothing to train on from
    if the last one is damaged."""

    @property
    def removes_checkpoints(self) -> bool:
        """Whether there is a rule, so that what no rule keeps goes."""
        return self.keep_last is not None or self.keep_every is not None or self.keep_best

    @property
    def removes_anything(self) -> bool:
        """Whether files of a checkpoint may go at all."""
        return self.removes_checkpoints or self.optimizer_last is not None

    def cautions(self, *, checkpoint_every: int, steps: int) -> list[str]:
        """What a person should know of these rules before they are followed, in an experiment of these values."""
        found = []
        if self.keep_every is not None:
            common = math.lcm(self.keep_every, checkpoint_every)
            if common > steps:
                found.append(
                    f"retention.keep_every={self.keep_every} keeps nothing: no checkpoint of every "
                    f"{counted(checkpoint_every, 'step')} up to {steps:,} is a multiple of it"
                )
            elif common != self.keep_every and common != checkpoint_every:
                found.append(
                    f"retention.keep_every={self.keep_every} is not a multiple of checkpoint_every={checkpoint_every}: "
                    f"it keeps the multiples of {common:,} only"
                )
        if self.optimizer_last == 1:
            found.append(
                "with retention.optimizer_last=1, a damaged last checkpoint leaves nothing to train on from; 2 leaves "
                "the one before"
            )
        if self.keep_last == 1 and self.optimizer_last != 1:
            found.append(
                "with retention.keep_last=1, a damaged last checkpoint may leave nothing to train on from; 2 leaves "
                "the one before"
            )
        return found
