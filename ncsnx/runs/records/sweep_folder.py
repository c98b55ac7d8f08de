"""Folders of parameter sweeps, `NAME.sweep`, which stand beside the runs: what they are called and what they hold."""

from pathlib import Path

import attrs

from ncsnx.errors import NcsnxError
from ncsnx.runs.records.parameter_sweep_record import ParameterSweepRecord
from ncsnx.storage import reading
from ncsnx.storage.documents import read_document

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
