"""Results of sweeps (one folder per protocol, one row per checkpoint) and the best checkpoint by them.

    fid/n1000-seed0-classifier-1a2b3c4d/scores.json  scores.csv  scores.png  scores.svg

A row is keyed by the sha256 of the weights that it was measured on, so a replaced checkpoint loses its row.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import attrs

from ncsnx.config import checks
from ncsnx.config.checks import shortened
from ncsnx.config.codec import digest
from ncsnx.config.converter import structure, unstructure
from ncsnx.config.experiment import MOST_STEPS
from ncsnx.config.variants import OMITTED, REST, VERSION
from ncsnx.errors import Hint, NcsnxError
from ncsnx.quantities import counted, number
from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import holds
from ncsnx.storage import atomic, reading
from ncsnx.storage.documents import document, read_document, write_document

SCORES = "scores.json"
TABLE = "scores.csv"
RESULTS = "results.json"
"""Results of a sampler comparison or of a neighbour search."""
FEATURES = "features"
"""Folder of the features behind the numbers of a sweep."""
MOST_FEATURES_BYTES = 2 * 2**30
"""Limit for the features that a run's sweeps keep: Inception features of some 250,000 images."""
_LEAST, _MOST = 1e-30, 1e30
"""Limits of the absolute values of scores, errors and losses other than 0; a number outside isn't from ncsnx."""

Row = dict[str, Any]
"""'step', 'weights_sha256', 'score' (lower is better) and further measured values."""


@attrs.frozen(kw_only=True)
class ScoreRow:
    """A row as stored in the file."""

    step: int = attrs.field(validator=checks.between(0, MOST_STEPS))
    weights_sha256: str
    measured: Row = attrs.field(metadata=REST)
    """The score and further measured values."""

    def __attrs_post_init__(self) -> None:
        if value(self.measured, "score") is None:
            found = checks.quoted(self.measured.get("score"))
            raise checks.FieldError("score", f"must be 0 or between {_LEAST:g} and {_MOST:g} in size, not {found}")


@document("the scores of a sweep", advice="move it away and repeat the command")
@attrs.frozen(kw_only=True)
class SweepRecord:
    """Content of scores.json."""

    schema_version: int = attrs.field(default=1, metadata=VERSION)
    metric: str = ""
    caption: str = ""
    protocol: dict[str, Any]
    perfect_model: dict[str, Any] | None = attrs.field(default=None, metadata=OMITTED)
    changed: str
    rows: tuple[ScoreRow, ...]


@attrs.define
class ScoreFile:
    """The rows of one sweep, each stored durably when it is added."""

    folder: Path
    protocol: dict[str, Any]
    """The measurement and its settings; together with the weights' sha256 they determine a row."""
    metric: str = ""
    """Name of the score."""
    caption: str = ""
    """The protocol in words."""
    rows: list[Row] = attrs.field(factory=list)
    """Rows by step, ascending."""
    changed: str = ""
    """Time of the last row: UTC, ISO 8601."""
    perfect_model: dict[str, Any] | None = None
    """Expected score of a perfect model, as JSON; None if unknown, and for measures other than distances."""

    @classmethod
    def open(cls, folder: Path, protocol: Mapping[str, Any], metric: str = "", caption: str = "") -> Self:
        """The sweep of this protocol in `folder`, which need not exist. Raises NcsnxError for a damaged file."""
        try:
            found = cls.read(folder)
        except FileNotFoundError:
            return cls(folder, dict(protocol), metric, caption)
        if found.protocol != json.loads(json.dumps(protocol)):
            raise NcsnxError(
                f"{folder / SCORES} holds scores of another protocol", Hint("move it away and repeat the command")
            )
        return found

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The sweep in `folder`. Raises FileNotFoundError if there is none, NcsnxError for a damaged file."""
        found = read_document(folder / SCORES, SweepRecord, reading.RECORDS_LIMIT)
        rows = [unstructure(row) for row in found.rows]
        metric = shortened(found.metric)
        return cls(folder, found.protocol, metric, found.caption, rows, found.changed, found.perfect_model)

    def reload(self) -> None:
        """Reads rows that another process has added. Raises NcsnxError."""
        found = self.open(self.folder, self.protocol)
        self.rows, self.changed = found.rows, found.changed

    def row(self, step: int, weights_sha256: str) -> Row | None:
        """The row of a checkpoint with these weights, or None."""
        return next((row for row in self.rows if _key(row) == (step, weights_sha256)), None)

    def add(self, row: Row, now: str) -> None:
        """Stores a row; it replaces an earlier one of its step. now: UTC, ISO 8601. Raises NcsnxError."""
        others = [other for other in self.rows if other["step"] != row["step"]]
        self.rows = sorted([*others, row], key=lambda row: int(row["step"]))
        self.changed = now
        self.write()

    def write(self) -> None:
        """Writes scores.json. Raises NcsnxError."""
        with atomic.reporting(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        record = SweepRecord(
            metric=self.metric,
            caption=self.caption,
            protocol=self.protocol,
            perfect_model=self.perfect_model,
            changed=self.changed,
            rows=structure(self.rows, tuple[ScoreRow, ...]),
        )
        write_document(self.folder / SCORES, record)

    def write_table(self) -> Path:
        """Writes the rows as CSV beside the scores. Raises NcsnxError."""
        atomic.write_bytes(self.folder / TABLE, _csv(self.rows))
        return self.folder / TABLE


@attrs.frozen
class Best:
    """The checkpoint with the lowest score, and the sweep that measured it."""

    step: int
    weights_sha256: str
    score: float
    metric: str
    images: int
    reference: str
    """Digest of the facts of the real images that the score compares with."""
    sweep: Path
    scored: tuple[int, ...]
    """Steps of the checkpoints that the sweep scored and that still exist."""

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values; the number of scored checkpoints under 'among'."""
        values = attrs.asdict(self, filter=attrs.filters.exclude("scored"))
        return {**values, "sweep": str(self.sweep), "among": len(self.scored)}

    def __str__(self) -> str:
        return (
            f"step {self.step:,}, {self.metric} {number(self.score)} on {counted(self.images, 'image')}, the best of "
            f"{len(self.scored)} scored in {self.sweep}"
        )


def value(row: Mapping[str, Any], key: str) -> float | None:
    """A number in a row; None if it wasn't measured or isn't a valid number."""
    item = row.get(key)
    if isinstance(item, bool) or not isinstance(item, int | float):
        return None
    # statistics and plot axes can't handle numbers near the limits of floats
    return float(item) if item == 0 or _LEAST <= abs(item) <= _MOST else None


def best_row(rows: Sequence[Row]) -> Row | None:
    """The row with the lowest score; the first of equal ones. None without rows."""
    return min(rows, key=lambda row: float(row["score"]), default=None)


def best_checkpoint(run: Run) -> Best | None:
    """The best checkpoint by the sweep with the most images (the newest of equal ones); None without scores.

    Sweeps of ensembles don't count, since they don't rank single checkpoints, nor do scores of weights that no longer
    exist. Raises NcsnxError for a damaged file.
    """
    best, rank = None, (-1, "")
    for sweep in sweeps_in(run.fid):
        images = sweep.protocol.get("n")
        if sweep.protocol.get("ensemble") != 1 or not isinstance(images, int) or (images, sweep.changed) <= rank:
            continue
        scored = [row for row in sweep.rows if holds(run, *_key(row))]
        if (row := best_row(scored)) is not None:
            rank = images, sweep.changed
            best = Best(
                step=row["step"],
                weights_sha256=row["weights_sha256"],
                score=float(row["score"]),
                metric=sweep.metric,
                images=images,
                reference=digest(sweep.protocol.get("reference"))[:8],
                sweep=sweep.folder,
                scored=tuple(row["step"] for row in scored),
            )
    return best


def require_best(run: Run) -> Best:
    """The checkpoint that `best` means, and the sweep that measured it. Raises NcsnxError without scores."""
    best = best_checkpoint(run)
    if best is None:
        raise NcsnxError(
            f"run {run.name!r} has no best checkpoint: no scores yet (scores of ensembles and of weights that no "
            "longer exist do not count)",
            Hint("score the checkpoints", f"ncsnx fid {run.typed}"),
        )
    return best


def sweeps_in(*places: Path, unreadable: Callable[[NcsnxError], object] | None = None) -> Iterator[ScoreFile]:
    """The sweeps in these places, such as a run's fid/, that have scores; by name in each.

    unreadable: called with the error of a damaged file; without it, the error is raised.
    """
    for folder in (folder for place in places for folder in _sweep_folders(place)):
        try:
            yield ScoreFile.read(folder)
        except FileNotFoundError:  # a sweep without a score yet
            continue
        except NcsnxError as error:
            if unreadable is None:
                raise
            unreadable(error)


def _sweep_folders(place: Path) -> list[Path]:
    """Folders of sweeps in `place`, such as a run's fid/, by name; empty if it doesn't exist. Raises NcsnxError."""
    try:
        return sorted(path for path in place.iterdir() if path.is_dir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise NcsnxError(f"cannot read {place}: {error.strerror}") from error


def _key(row: Row) -> tuple[int, str]:
    return row["step"], row["weights_sha256"]


def _cells(row: Row) -> Iterator[tuple[str, object]]:
    for key, value in row.items():
        if isinstance(value, list):
            yield from ((f"{key}.{number}", item) for number, item in enumerate(value))
        elif not isinstance(value, dict):
            yield key, value


def _csv(rows: Sequence[Row]) -> bytes:
    """One line per row. Each item of a list gets a column, numbered from 0; objects are left out."""
    plain = [dict(_cells(row)) for row in rows]
    columns = list(dict.fromkeys(key for row in plain for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(plain)
    return text.getvalue().encode("utf-8")
