"""Measurements as commands return them, and as reports, cards and plots read them: rows under one protocol."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from ncsnx.config.converter import structure
from ncsnx.config.sampler import Sampler
from ncsnx.errors import NcsnxError
from ncsnx.quantities import number, with_error
from ncsnx.results import Column, Result, Table
from ncsnx.runs.ledger import Entry, MeasurementProtocol, Quantity, Row, Series, Subject, lowest, value


@attrs.frozen(kw_only=True, eq=False)
class MeasuredRow:
    """A row: a subject and its numbers."""

    names: tuple[str, ...]
    """The subject in words: a cell for each of the table's names."""
    facts: Mapping[str, Any]
    """The subject as JSON."""
    values: Row
    """Numbers by key; 'score', if any, is lower for better ones."""
    subject: Subject | None = None
    """The subject, without a seed for all seeds together; None for settings of a sweep."""
    remark: str = ""
    is_ranked: bool = True
    """Whether it may be the best."""
    again: "MeasuredRow | None" = None
    """The same with fresh seeds, which no choice has seen."""

    @classmethod
    def of(cls, entry: Entry) -> "MeasuredRow":
        """The row of a checkpoint."""
        facts = {"step": entry.step, "weights_sha256": entry.subject.weights_sha256, "made": entry.made}
        names = (f"{entry.step:,}",)
        return cls(names=names, facts=facts, values=entry.values, subject=entry.subject)

    @property
    def step(self) -> int:
        """Step of the checkpoint. Raises KeyError without one."""
        return int(self.facts["step"])

    @property
    def weights_sha256(self) -> str:
        """sha256 of the weights that were measured, in hexadecimal."""
        return str(self.facts["weights_sha256"])

    @property
    def sampler(self) -> Sampler:
        """The sampler that drew the images. Raises NcsnxError without its package."""
        return structure(None if self.subject is None else self.subject.sampler, Sampler)

    @property
    def score(self) -> float | None:
        """The number that ranks rows, lower is better; None: it diverged."""
        return value(self.values, "score")

    @property
    def error(self) -> float | None:
        """The number behind ± of the score."""
        return value(self.values, "error")

    def to_json(self) -> dict[str, Any]:
        """Everything about the row."""
        again = {} if self.again is None else {"measured_again": self.again.values}
        return {**self.facts, **self.values, **again, **({"remark": self.remark} if self.remark else {})}


@attrs.frozen(kw_only=True, slots=False, repr=False)
class Measurements(Result):
    """Rows of numbers under one protocol."""

    metric: str
    """Name of the score: FID only with the published Inception network."""
    where: str
    """The run, or the sweep."""
    names: tuple[str, ...]
    """Titles of what was measured."""
    columns: tuple[Quantity, ...]
    """The numbers that are shown, the score first."""
    rows: tuple[MeasuredRow, ...]
    protocol: Mapping[str, Any] = attrs.field(factory=dict)
    """The facts that must agree for numbers to be compared, as JSON."""
    caption: str = ""
    """The protocol in words."""
    subject_words: tuple[str, ...] = ()
    """Common facts of all subjects, in words, with which the caption begins."""
    perfect_model: Mapping[str, Any] | None = None
    """Score of real images in place of sampled ones, the noise floor; None if unknown, and for other measures."""
    folder: Path | None = None
    """Folder of the table and plots; None if none were written."""
    notes: Sequence[str] = ()
    """Closing messages."""
    left_out: Sequence[str] = ()
    """A line for everything that could not be measured."""
    recorded: MeasurementProtocol | None = None
    """The protocol without what all subjects have in common; equal ones can be compared."""
    recommended: Sampler | None = None
    """The sampler that a comparison recommends, and `sampler='fast'` then means; None: no setting is usable."""
    reason: str = ""
    """Why no sampler is recommended; '' if one is."""
    marks_best: bool = True

    @classmethod
    def of(cls, series: Series, entries: Sequence[Entry] | None = None, **others: Any) -> "Measurements":
        """The rows of checkpoints. entries: those shown; None for all."""
        entries, protocol = series.entries if entries is None else entries, series.protocol
        return cls(
            **{
                "metric": protocol.metric,
                "where": str(series.run.path),
                "names": ("step",),
                "columns": shown_columns(protocol),
                "rows": tuple(map(MeasuredRow.of, entries)),
                "protocol": series.facts,
                "caption": series.caption,
                "subject_words": series.words,
                "perfect_model": protocol.perfect_model,
                "recorded": protocol,
                "folder": series.folder,
                **others,
            }
        )

    @property
    def best(self) -> MeasuredRow:
        """The row with the lowest score. Raises NcsnxError if none has one."""
        if (found := self.best_row) is None:
            raise self.problem() or NcsnxError(f"nothing of {self.where} has a score")
        return found

    @property
    def best_row(self) -> MeasuredRow | None:
        """The row with the lowest score; None if none has one."""
        if not self.marks_best or not self.columns:
            return None
        return lowest((row for row in self.rows if row.is_ranked), lambda row: self.columns[0].value_in(row.values))

    @property
    def _lines(self) -> list[MeasuredRow]:
        """The rows of table and CSV: each, and its second measurement."""
        return [line for one in self.rows for line in (one, one.again) if line is not None]

    def table(self) -> Table:
        """The table as text."""
        best = self.best_row
        lines = [attrs.evolve(one, remark="best") if one is best else one for one in self._lines]
        cells = [[*one.names, *(self._cell(column, one) for column in self.columns), one.remark] for one in lines]
        if (perfect := self.perfect_model) is not None:
            others = ("" if one.perfect is None else number(one.perfect) for one in self.columns[1:])
            cells.append(["perfect model", with_error(perfect["score"], perfect["spread"]), *others, ""])
        names = [Column(title, "right" if self.names == ("step",) else "left") for title in self.names]
        columns = [*names, *(Column(one.title, "right") for one in self.columns), Column("")]
        bold = [place for place, one in enumerate(lines) if one.remark == "best" or one.remark.endswith(": fast")]
        return Table(columns=columns, rows=cells, bold=bold)

    def _cell(self, column: Quantity, row: MeasuredRow) -> str:
        diverged = column is self.columns[0] and "score" in row.values and row.score is None
        return "diverged" if diverged else column.shown(row.values)

    def csv(self) -> bytes:
        """One line per row of the table. Each item of a list gets a column, numbered from 0; objects are left out."""
        return csv_of([dict(_cells(line.to_json())) for line in self._lines])

    def errors_in_words(self) -> str:
        """The meaning of ± in the table; '' without any."""
        found: dict[str, list[str]] = {}
        for column in self.columns:
            if any(column.error_in(row.values) is not None for row in self.rows):
                found.setdefault(column.plus_minus, []).append(column.title)
        parts = [
            f"{', '.join(titles)}: {what}" if place else what for place, (what, titles) in enumerate(found.items())
        ]
        parts += ["perfect model: standard deviation over draws"] if self.perfect_model else []
        return f"± {'; '.join(parts)}" if parts else ""

    # ------------------------------------------------------------------------------------------------------ output

    def shown(self) -> Sequence[Table | str]:
        return [self.table()]

    def closing(self) -> Sequence[str]:
        if not any(one.values for one in self.rows):
            return [*self.notes]
        found, best = [], self.best_row
        if best is not None:
            what = ", ".join(f"{name} {cell}" for name, cell in zip(self.names, best.names, strict=True))
            found = [f"best: {what}, {self.columns[0].title} {self.columns[0].shown(best.values)}"]
        return [*found, *filter(None, [self.errors_in_words()]), *self.notes]

    def problem(self) -> NcsnxError | None:
        return NcsnxError("; ".join(self.left_out)) if self.left_out else None

    def to_json(self) -> object:
        return {
            "metric": self.metric,
            "protocol": self.protocol,
            "protocol_digest": None if self.recorded is None else self.recorded.digest,
            "caption": self.caption,
            "plus_minus": {one.key: one.plus_minus for one in self.columns if one.error is not None},
            "perfect_model": self.perfect_model,
            "rows": [one.to_json() for one in self.rows],
        }

    def heading(self) -> tuple[str, str]:
        return self.metric, self.where

    def remarks(self) -> Sequence[str]:
        return [self.caption, *filter(None, [self.errors_in_words()])]

    def __repr__(self) -> str:
        best = self.best_row
        found = "" if best is None else f", best {' '.join(best.names)}: {self.columns[0].shown(best.values)}"
        return f"{self.metric} of {self.where}{found}\n  {self.caption}"


def shown_columns(protocol: MeasurementProtocol, requested: Sequence[str] | None = ()) -> tuple[Quantity, ...]:
    """The columns of a protocol. requested: tags of further metrics; None for all."""
    return tuple(one for one in protocol.columns if not one.on_request or requested is None or one.metric in requested)


def csv_of(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """CSV with a column for each key of the rows."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8")


def _cells(row: Mapping[str, Any]) -> list[tuple[str, object]]:
    cells: list[tuple[str, object]] = []
    for key, found in row.items():
        if isinstance(found, list):
            cells += [(f"{key}.{place}", item) for place, item in enumerate(found)]
        elif not isinstance(found, dict):
            cells.append((key, found))
    return cells
