"""Parameter sweeps: `NAME.sweep` beside its runs, with the record `sweep.json`."""

from collections import Counter
from pathlib import Path
from typing import Any

import attrs

from ncsnx.config import checks
from ncsnx.config.strict.fields import VERSION
from ncsnx.errors import NcsnxError
from ncsnx.runs.names import names_a_file_everywhere
from ncsnx.storage import reading
from ncsnx.storage.documents import document, read_document

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


SWEEP_SUFFIX = ".sweep"
SWEEP_FILE = "sweep.json"
COMPARISON = "scores"
"""Stem of the table and the plot that compare the settings: scores.csv, scores.png, scores.svg."""


@attrs.frozen
class SweepFolder:
    """The folder of a parameter sweep, which need not exist."""

    path: Path

    @classmethod
    def named(cls, runs_folder: Path, name: str) -> "SweepFolder":
        """The folder of the sweep of this name."""
        return cls(runs_folder / f"{name}{SWEEP_SUFFIX}")

    @property
    def record_path(self) -> Path:
        """The points and what they have in common."""
        return self.path / SWEEP_FILE

    def record(self) -> ParameterSweepRecord | None:
        """The sweep's record; None if the folder doesn't exist. Raises NcsnxError if it isn't that of a sweep."""
        if not self.path.exists():
            return None
        try:
            return read_document(self.record_path, ParameterSweepRecord, reading.RECORDS_LIMIT)
        except FileNotFoundError as error:
            raise NcsnxError(f"{self.path} is not a parameter sweep: it has no {SWEEP_FILE}") from error


def is_sweep_folder(path: Path) -> bool:
    """Whether this is the folder of a parameter sweep, whose record may be damaged."""
    return path.name.endswith(SWEEP_SUFFIX) and (path / SWEEP_FILE).is_file()
