"""Record of a parameter sweep, in a folder beside its runs: `runs/NAME.sweep/sweep.json`."""

from collections import Counter
from typing import Any

import attrs

from ncsnx.config import checks
from ncsnx.config.strict.fields import VERSION
from ncsnx.runs.names import names_a_file_everywhere
from ncsnx.storage.documents import document

MOST_SEEDS = 1_000
"""Most repetitions of one setting."""


@attrs.frozen(kw_only=True)
class SweepBase:
    """The experiment that the points change."""

    typed: str
    """How it was named on the command line."""
    name: str
    where: str
    """FILE:LINE of its registration, or the folder of a run."""
    identity: str = attrs.field(validator=checks.sha256_hex)
    """Identity without any change."""


@attrs.frozen(kw_only=True)
class SweptField:
    """A field that takes several values in turn."""

    path: str
    values: tuple[str, ...]
    """The values as they were typed."""


@attrs.frozen(kw_only=True)
class RecordedPoint:
    """A run of the sweep, which need not exist yet."""

    run: str
    """Name of its folder, beside that of the sweep."""
    values: dict[str, str]
    """Dotted path → value, for the fields that differ between points."""
    identity: str = attrs.field(validator=checks.sha256_hex)


@document("a parameter sweep", advice="move its folder away and repeat the command")
@attrs.frozen(kw_only=True)
class ParameterSweepRecord:
    """Content of sweep.json; it never changes."""

    schema_version: int = attrs.field(default=1, metadata=VERSION)
    name: str
    base: SweepBase
    fixed: dict[str, str]
    """Dotted path → value as it was typed, for the changes that all points have."""
    fields: tuple[SweptField, ...]
    zipped: bool
    """Whether the fields take their values together; otherwise every combination is a point."""
    seeds: int = attrs.field(validator=checks.between(1, MOST_SEEDS))
    """Repetitions of each setting, with consecutive seeds."""
    points: tuple[RecordedPoint, ...]
    made: dict[str, Any]
    """The process that began the sweep."""

    def __attrs_post_init__(self) -> None:
        for name in (self.name, *(point.run for point in self.points)):
            if not names_a_file_everywhere(name):
                raise checks.FieldError("points", f"must have names of runs, not {checks.quoted(name)}")
        counts = Counter(point.run for point in self.points)
        if twice := [name for name, count in counts.items() if count > 1]:
            raise checks.FieldError("points", f"must have names of their own, but several are named {twice[0]}")
