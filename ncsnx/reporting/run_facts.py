"""Facts about a run from its folder; a file that can't be read becomes a line in place of its facts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import attrs
from markupsafe import Markup

from ncsnx.config.codec import identity
from ncsnx.config.experiment import Experiment
from ncsnx.errors import NcsnxError
from ncsnx.reporting import html
from ncsnx.runs.folder import Run, read_origins
from ncsnx.runs.manifest import checkpoints
from ncsnx.runs.metrics_log import MetricsLog
from ncsnx.runs.segments import Segment, read_segments
from ncsnx.storage import reading
from ncsnx.storage.documents import read_document

T = TypeVar("T")

_LARGEST_PICTURE = 2**26
_MOST_FOLDERS = 4
"""Most results of one kind that are shown, the newest ones."""


@attrs.frozen(kw_only=True)
class RunFacts:
    """A run with its records, as far as they can be read."""

    run: Run
    problems: list[str]
    """Lines about files that can't be read, and about results that are left out."""
    experiment: Experiment | None
    data_fingerprint: str | None
    origins: dict[str, str]
    segments: list[Segment]
    metrics: list[dict[str, Any]]
    """Records in the file's order."""
    steps: list[int]
    """Steps of the checkpoints, ascending."""

    @classmethod
    def read(cls, run: Run) -> "RunFacts":
        """Reads a run's records."""
        problems: list[str] = []
        experiment = tried(run.experiment, None, problems)
        metrics: list[dict[str, Any]] = tried(MetricsLog(run).read, [], problems)
        return cls(
            run=run,
            problems=problems,
            experiment=experiment,
            data_fingerprint=None if experiment is None else tried(run.data_fingerprint, None, problems),
            origins=tried(lambda: read_origins(run.origins_path), {}, problems),
            segments=tried(lambda: read_segments(run), [], problems),
            metrics=[record for record in metrics if isinstance(record.get("step"), int)],
            steps=tried(lambda: checkpoints(run), [], problems),
        )

    @property
    def name(self) -> str:
        """The run's name."""
        return self.run.name

    @property
    def identity(self) -> str:
        """Identity of the experiment; empty if its configuration can't be read."""
        return "" if self.experiment is None else identity(self.experiment)

    def tried(self, read: Callable[[], T], otherwise: T) -> T:
        """The result of `read`; `otherwise`, and a line, if it raises NcsnxError or OSError."""
        return tried(read, otherwise, self.problems)

    def document(self, path: Path, kind: type[T]) -> T | None:
        """The document in a file; None if it is missing, and also, with a line, if it can't be read."""
        return self.tried(lambda: read_document(path, kind, reading.RECORDS_LIMIT), None) if path.exists() else None

    def picture(self, path: Path, caption: str, style: Literal["images", "plot"] = "images") -> Markup:
        """The picture in a PNG; empty if it is missing, and also, with a line, if it can't be read."""
        if not path.exists():
            return Markup()
        try:
            return html.figure(reading.read_bytes(path, _LARGEST_PICTURE), caption, style)
        except (NcsnxError, OSError) as error:
            self.problems.append(f"{path}: {error}")
            return Markup()

    def newest(self, folders: list[Path], what: str) -> list[Path]:
        """The folders that changed last, the newest first, with a line about the others."""
        folders = sorted(folders, key=lambda folder: folder.stat().st_mtime_ns, reverse=True)
        if len(folders) > _MOST_FOLDERS:
            self.problems.append(f"{self.name}: {what}: the newest {_MOST_FOLDERS} of {len(folders):,} are shown")
        return folders[:_MOST_FOLDERS]


def tried(read: Callable[[], T], otherwise: T, problems: list[str]) -> T:
    """The result of `read`; `otherwise`, and a line in `problems`, if it raises NcsnxError or OSError."""
    try:
        return read()
    except OSError as error:
        problems.append(f"{error.filename or 'a file'}: {error.strerror or error}")
    except NcsnxError as error:
        problems.append(str(error))
    return otherwise


def as_command(recorded: str) -> str:
    """A recorded command line that begins with `ncsnx`, wherever that was installed."""
    program, _, rest = recorded.partition(" ")
    if Path(program).name in ("ncsnx", "__main__.py"):
        return f"ncsnx {rest}".rstrip()
    return recorded
