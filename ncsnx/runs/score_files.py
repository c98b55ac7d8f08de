"""What sweeps measured: one folder a protocol, one row a checkpoint, and from them the best checkpoint.

    fid/n1000-seed0-classifier-1a2b3c4d/scores.json  scores.csv  scores.png  scores.svg

A row belongs to the sha256 of the weights that it was measured on, so that a checkpoint that was replaced has none.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import attrs

from ncsnx.config import checks
from ncsnx.config.checks import shortened
from ncsnx.config.experiment import MOST_STEPS
from ncsnx.config.strict.converter import structured, unstructured
from ncsnx.config.strict.fields import OMITTED, REST, versioned
from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted, number
from ncsnx.runs.folder import Run
from ncsnx.runs.names import names_a_file_everywhere
from ncsnx.runs.protocols import current
from ncsnx.storage import atomic, reading
from ncsnx.storage.documents.document import document
from ncsnx.storage.documents.document_files import read_document, write_document

SCORES = "scores.json"
TABLE = "scores.csv"
RESULTS = "results.json"
"""Of a comparison of samplers, and of a search for neighbours."""
TABLE_OF_IMAGES = "images"
"""In a row: {"file", "sha256"} of the table of what was measured of each image, where a sweep keeps one."""
FEATURES = "features"
"""In a row: {"file", "sha256"} of the features that its numbers were computed from, where they are kept; and the folder
of those files."""
MOST_FEATURES_BYTES = 2 * 2**30
"""Of the features that a run's sweeps keep: some 250,000 images of Inception's."""
_LEAST, _MOST = 1e-30, 1e30
"""No score, error or loss comes near: a number beyond was written by somebody else."""

Row = dict[str, Any]
"""'step', 'weights_sha256', 'score' (the lower the better), and what else was measured."""


@attrs.frozen(kw_only=True)
class ScoreRow:
    """A row as it is in the file."""

    step: int = attrs.field(validator=checks.between(0, MOST_STEPS))
    weights_sha256: str
    measured: Row = attrs.field(metadata=REST)
    """The score, and what else was measured."""

    def __attrs_post_init__(self) -> None:
        if value(self.measured, "score") is None:
            found = checks.quoted(self.measured.get("score"))
            raise checks.FieldError("score", f"must be 0 or between {_LEAST:g} and {_MOST:g} in size, not {found}")


@document("the scores of a sweep", advice="move it away and repeat the command")
@attrs.frozen(kw_only=True)
class SweepRecord:
    """What scores.json says."""

    schema_version: int = attrs.field(default=1, metadata=versioned())
    metric: str = ""
    caption: str = ""
    protocol: dict[str, Any]
    perfect_model: dict[str, Any] | None = attrs.field(default=None, metadata=OMITTED)
    changed: str
    rows: tuple[ScoreRow, ...]

    def __attrs_post_init__(self) -> None:
        counts = Counter(row.step for row in self.rows)
        if twice := [step for step, count in counts.items() if count > 1]:
            raise checks.FieldError("rows", f"must be one for each step, not {counts[twice[0]]} for step {twice[0]}")


@attrs.frozen
class KeptFile:
    """A file beside the scores, as a row names it."""

    name: str
    """Without folders."""
    sha256: str


@attrs.define
class ScoreFile:
    """The rows of one sweep, kept durably as they come."""

    folder: Path
    protocol: dict[str, Any]
    """What was measured and how; with the weights' sha256 it determines a row."""
    metric: str = ""
    """What the score is called."""
    caption: str = ""
    """The protocol in words."""
    rows: list[Row] = attrs.field(factory=list)
    """By step, ascending."""
    changed: str = ""
    """When the last row came: UTC, ISO 8601."""
    perfect_model: dict[str, Any] | None = None
    """What a perfect model would score, as JSON; None where it is unknown, and for other measures than distances."""

    @classmethod
    def open(cls, folder: Path, protocol: Mapping[str, Any], metric: str = "", caption: str = "") -> Self:
        """The sweep of this protocol in `folder`, which need not exist. Raises NcsnxError for a damaged file."""
        reading.refuse_links(folder.parent, folder)
        try:
            found = cls.read(folder)
        except FileNotFoundError:
            return cls(folder, dict(protocol), metric, caption)
        if found.protocol != json.loads(json.dumps(protocol)):
            raise NcsnxError(f"{folder / SCORES} holds scores of another protocol; move it away and repeat the command")
        return found

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The sweep in `folder`. Raises FileNotFoundError where there is none, NcsnxError for a damaged file."""
        found = read_document(folder / SCORES, SweepRecord, reading.RECORDS_LIMIT)
        rows, protocol = [unstructured(row) for row in found.rows], current(found.protocol)
        metric = shortened(found.metric)
        return cls(folder, protocol, metric, found.caption, rows, found.changed, found.perfect_model)

    def reload(self) -> None:
        """Takes over what another process has added meanwhile. Raises NcsnxError."""
        found = self.open(self.folder, self.protocol)
        self.rows, self.changed = found.rows, found.changed

    def row(self, step: int, weights_sha256: str) -> Row | None:
        """The row of a checkpoint with these weights."""
        return next((row for row in self.rows if _key(row) == (step, weights_sha256)), None)

    def add(self, row: Row, now: str) -> None:
        """Keeps a row, in the place of an earlier one of that step. now: UTC, ISO 8601. Raises NcsnxError."""
        others = [other for other in self.rows if other["step"] != row["step"]]
        self.rows = sorted([*others, row], key=lambda row: int(row["step"]))
        self.changed = now
        self.write()

    def write(self) -> None:
        """Replaces the file of the scores. Raises NcsnxError."""
        with atomic.reporting(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        record = SweepRecord(
            metric=self.metric,
            caption=self.caption,
            protocol=self.protocol,
            perfect_model=self.perfect_model,
            changed=self.changed,
            rows=structured(self.rows, tuple[ScoreRow, ...]),
        )
        write_document(self.folder / SCORES, record)

    def write_table(self) -> Path:
        """Writes the rows as CSV beside the scores. Raises NcsnxError."""
        atomic.write_bytes(self.folder / TABLE, _csv(self.rows))
        return self.folder / TABLE

    def is_newer_than(self, names: Sequence[str]) -> bool:
        """Whether one of the files that follow from the rows is missing, or was made before the last row."""
        try:
            changed = (self.folder / SCORES).stat().st_mtime_ns
            return any((self.folder / name).lstat().st_mtime_ns < changed for name in names)
        except OSError:
            return True


@attrs.frozen
class Best:
    """The checkpoint with the lowest score, and the sweep that says so."""

    step: int
    weights_sha256: str
    score: float
    metric: str
    images: int
    sweep: Path
    among: int
    """Checkpoints that the sweep scored and that are still there."""
    gone: int
    """Rows with a better score whose weights aren't there any more."""

    def __str__(self) -> str:
        gone = f"; {self.gone} better are gone" if self.gone else ""
        return (
            f"step {self.step:,}, {self.metric} {number(self.score)} of {counted(self.images, 'image')}, the best of "
            f"{self.among} that {self.sweep} scored{gone}"
        )


def value(row: Mapping[str, Any], key: str) -> float | None:
    """A number of a row; None where it wasn't measured, or somebody wrote something else there."""
    return _number(row.get(key))


def values(row: Row, key: str, count: int) -> list[float | None]:
    """A list of `count` numbers of a row, as `value` reads each."""
    found = row.get(key)
    items = found if isinstance(found, list) and len(found) == count else [None] * count
    return [_number(item) for item in items]


def item(row: Mapping[str, Any], key: str, place: int) -> float | None:
    """One number of a list in a row, as `value` reads it; None where there is no list, or none so long."""
    found = row.get(key)
    return _number(found[place]) if isinstance(found, list) and place < len(found) else None


def kept_file(row: Row, key: str) -> KeptFile | None:
    """The file that a row names under TABLE_OF_IMAGES or FEATURES; None where it names none."""
    match row.get(key):
        case {"file": str(name), "sha256": str(sha256)} if names_a_file_everywhere(name):
            return KeptFile(name, sha256)
    return None


def best_row(rows: Sequence[Row]) -> Row | None:
    """The row with the lowest score; the earliest of equal ones."""
    return min(rows, key=lambda row: float(row["score"]), default=None)


def best_place(rows: Sequence[Row]) -> int | None:
    """Where `best_row` is among the rows."""
    best = best_row(rows)
    return next((place for place, row in enumerate(rows) if row is best), None)


def best_checkpoint(run: Run, is_there: Callable[[int, str], bool]) -> Best | None:
    """The best of the newest sweep with the most images; None before there is a score.

    is_there: whether a step's checkpoint holds the weights of this sha256. A sweep of ensembles says nothing about a
    single checkpoint, and doesn't count. Raises NcsnxError for a damaged file.
    """
    sweeps = []
    for folder in sweep_folders(run.fid):
        with suppress(FileNotFoundError):  # a sweep without a score yet
            sweeps.append(ScoreFile.read(folder))
    ranked = [found for sweep in sweeps if (found := _ranked(sweep, is_there)) is not None]
    return max(ranked, key=lambda found: found[0])[1] if ranked else None


def sweep_folders(place: Path) -> list[Path]:
    """The folders of sweeps in `place`, such as a run's fid/, by name; none where it isn't there. Raises NcsnxError."""
    try:
        return [entry.path for entry in reading.entries(place) if entry.kind == "folder"]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise NcsnxError(f"cannot read {place}: {error.strerror}") from error


def _ranked(sweep: ScoreFile, is_there: Callable[[int, str], bool]) -> tuple[tuple[int, str], Best] | None:
    match sweep.protocol:
        case {"n": int(images), "ensemble": 1}:
            there = [row for row in sweep.rows if is_there(*_key(row))]
            best = best_row(there)
            if best is not None:
                score = float(best["score"])
                gone = sum(row not in there and float(row["score"]) < score for row in sweep.rows)
                found = Best(
                    step=best["step"],
                    weights_sha256=best["weights_sha256"],
                    score=score,
                    metric=sweep.metric,
                    images=images,
                    sweep=sweep.folder,
                    among=len(there),
                    gone=gone,
                )
                return (images, sweep.changed), found
    return None


def _number(item: object) -> float | None:
    if isinstance(item, bool) or not isinstance(item, int | float):
        return None
    try:
        found = float(item)
    except OverflowError:  # JSON knows integers of any length
        return None
    # neither statistics nor axes can deal with numbers at the ends of what a float holds
    return found if found == 0 or _LEAST <= abs(found) <= _MOST else None


def _key(row: Row) -> tuple[int, str]:
    return row["step"], row["weights_sha256"]


def _cells(row: Row) -> Iterator[tuple[str, object]]:
    for key, value in row.items():
        if isinstance(value, list):
            yield from ((f"{key}.{number}", item) for number, item in enumerate(value))
        elif not isinstance(value, dict):
            yield key, value


def _csv(rows: Sequence[Row]) -> bytes:
    """One line a row; the items of a list get columns of their own, numbered from 0; objects stay in the JSON."""
    plain = [dict(_cells(row)) for row in rows]
    columns = list(dict.fromkeys(key for row in plain for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(plain)
    return text.getvalue().encode("utf-8")
