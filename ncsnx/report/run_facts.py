"""The records of a run's folder. What can't be read becomes a problem of the page, never an error."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import attrs

from ncsnx.config.codec import identity
from ncsnx.config.experiment import MOST_STEPS, Experiment
from ncsnx.errors import NcsnxError
from ncsnx.runs.checkpoints.manifest import checkpoints
from ncsnx.runs.folder import Run
from ncsnx.runs.metrics_log import MetricsLog
from ncsnx.runs.origins import read_origins
from ncsnx.runs.score_files import value
from ncsnx.runs.segments import Segment, read_segments
from ncsnx.storage import reading
from ncsnx.storage.documents.document_files import read_document

T = TypeVar("T")


@attrs.define
class Problems:
    """Lines about files that couldn't be read, and about what was left out."""

    lines: list[str] = attrs.field(factory=list)

    def tried(self, read: Callable[[], T], otherwise: T) -> T:
        """The result of `read`; `otherwise`, and a line, if it raises NcsnxError or OSError."""
        try:
            return read()
        except OSError as error:
            self.lines.append(f"{error.filename or 'a file'}: {error.strerror or error}")
        except NcsnxError as error:
            self.lines.append(str(error))
        return otherwise

    def document(self, path: Path, kind: type[T], limit: int = reading.JSON_LIMIT) -> T | None:
        """The document in a file; None if it is missing, and also, with a line, if it can't be read."""

        def read() -> T | None:
            try:
                return read_document(path, kind, limit)
            except FileNotFoundError:
                return None

        return self.tried(read, None)


@attrs.frozen(kw_only=True)
class RunFacts:
    """A run with its records, as far as they can be read."""

    run: Run
    experiment: Experiment | None
    identity: str
    """Identity of the experiment; empty if its configuration can't be read."""
    data_fingerprint: str | None
    origins: dict[str, str]
    segments: tuple[Segment, ...]
    metrics: tuple[dict[str, Any], ...]
    """Records with a step, in the file's order."""
    steps: tuple[int, ...]
    """Steps of the checkpoints, ascending."""

    @property
    def name(self) -> str:
        """The run's name."""
        return self.run.name


def read_facts(run: Run, problems: Problems) -> RunFacts:
    """Reads a run's records."""
    experiment = problems.tried(run.experiment, None)
    none: list[dict[str, Any]] = []
    records = problems.tried(MetricsLog(run).read, none)
    return RunFacts(
        run=run,
        experiment=experiment,
        identity="" if experiment is None else identity(experiment),
        data_fingerprint=None if experiment is None else problems.tried(run.data_fingerprint, None),
        origins=problems.tried(lambda: read_origins(run.origins_path), {}),
        segments=tuple(problems.tried(lambda: read_segments(run), [])),
        metrics=tuple(record for record in records if _has_step(record)),
        steps=tuple(problems.tried(lambda: checkpoints(run), [])),
    )


def _has_step(record: dict[str, Any]) -> bool:
    step = record.get("step")
    return type(step) is int and 0 <= step <= MOST_STEPS


def measured(record: dict[str, Any], key: str) -> float:
    """A number of a metrics record; NaN if it isn't there or isn't a valid number."""
    found = value(record, key)
    return math.nan if found is None else found


def folders_in(run: Run, place: str, problems: Problems) -> list[reading.Entry]:
    """The folders in a run's folder `place`, in the order of their last change; empty if it doesn't exist."""
    folder = run.path / place

    def found() -> list[reading.Entry]:
        try:
            there = [entry for entry in reading.entries(folder) if entry.kind == "folder"]
        except FileNotFoundError:
            return []
        return sorted(there, key=lambda entry: entry.path.lstat().st_mtime_ns)

    return problems.tried(found, [])
