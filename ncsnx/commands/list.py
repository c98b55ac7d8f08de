"""`ncsnx list`: experiments and runs."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import attrs

from ncsnx.commands.command import Command, Panel, command, option
from ncsnx.commands.groups import InRuns
from ncsnx.quantities import number
from ncsnx.results import Column, Result, Table

if TYPE_CHECKING:
    from pathlib import Path

    from ncsnx.runs.summaries import RunSummary
    from ncsnx.work import Work


@command("list", panel=Panel.RUNS, order=130)
@attrs.frozen(slots=False, kw_only=True, eq=False)
class List(InRuns, Command["Listed"]):
    """List experiments and runs.

    A run has the step of its newest checkpoint, its last training loss and its best score. With `sort`, only runs are
    shown. A broken file is listed with its error.

    A narrow terminal shows fewer columns; `ncsnx list | cat` and JSON have all of them.
    """

    sort: Annotated[str | None, option(Panel.OUTPUT, "COLUMN", default="run", complete="column")] = None
    """Order runs by a column, scores within each protocol; -COLUMN from the largest."""

    def carry_out(self, work: "Work") -> "Listed":
        with work.interruptible():
            runs = _runs(self.runs_folder(), self.sort)
            return Listed(runs=runs, sort=self.sort, find=partial(_experiments, work))


@attrs.frozen(kw_only=True, repr=False)
class Listed(Result):
    """Experiments and runs."""

    find: Callable[[], list[dict[str, Any]]]
    """Finds the experiments, which executes their files."""
    runs: "Sequence[RunSummary]"
    sort: str | None
    """Column that the runs are ordered by."""

    def shown(self) -> Sequence[Table | str]:
        parts: list[Table | str] = []
        if self.sort is None:
            experiments = self.find()
            broken = dict.fromkeys(f"broken: {row['error']}" for row in experiments if row["error"] is not None)
            parts += [_table(experiments), *broken, *([""] if self.runs else [])]
        return [*parts, _table_of_runs(self.runs, self.sort)] if self.runs else parts

    def to_json(self) -> object:
        return {"experiments": self.find(), "runs": [one.as_json() for one in self.runs]}


_KEYS = {"experiment": "name", "px": "image_size", "batch": "batch_size", "from": "where"}


def _table(experiments: Sequence[dict[str, Any]]) -> Table:
    columns = ("experiment", "data", "px", "network", "levels", "batch", "steps", "from")
    right, left_out = ("px", "levels", "batch", "steps"), {"batch": 1, "levels": 2}
    good = [row for row in experiments if row["error"] is None]
    return Table(
        columns=[Column(title, "right" if title in right else "left", left_out.get(title, 0)) for title in columns],
        rows=[[_text(row[_KEYS.get(title, title)]) for title in columns] for row in good],
    )


def _table_of_runs(runs: "Sequence[RunSummary]", sort: str | None) -> Table:
    """The runs, without columns that are empty in all rows."""
    by = (sort or "").removeprefix("-")
    rows = [_cells(one, by) for one in runs]
    titles = [title for title in rows[0] if any(row[title] for row in rows)]
    left = ("run", "experiment", "state", "protocol")
    left_out = {title: place for place, title in enumerate(("of", "experiment", "loss"), 1)}
    left_out.pop(by, None)
    columns = [Column(title, "left" if title in left else "right", left_out.get(title, 0)) for title in titles]
    return Table(columns=columns, rows=[[row[title] for title in titles] for row in rows])


def _cells(one: "RunSummary", by: str) -> dict[str, str]:
    """The columns as text; the held-out loss only where runs are ordered by it."""
    from ncsnx.runs.summaries import RUN_COLUMNS

    values = {title: column(one) for title, column in RUN_COLUMNS.items() if title != "held_out" or by == "held_out"}
    cells = {title: number(value) if isinstance(value, float) else _text(value) for title, value in values.items()}
    return cells if one.error is None else {**cells, "state": f"broken: {one.error}"}


def _text(value: object) -> str:
    from ncsnx.config.image_sizes import size_as_words

    if isinstance(value, tuple):
        return size_as_words((value[0], value[1]))  # in ASCII, so that a table needs no widths of other characters
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _experiments(work: "Work") -> list[dict[str, Any]]:
    from ncsnx.config.discovery import SEARCH_ORDER, discover, known_names
    from ncsnx.config.image_sizes import size_of_sides
    from ncsnx.config.loading import relative
    from ncsnx.config.variants import tag_of

    sources, rows = discover(), []
    for known in known_names(sources):
        experiment = known.registered.experiment
        where = relative(known.registered.where)
        rows.append(
            {
                "name": experiment.name,
                "data": tag_of(type(experiment.data)),
                "image_size": size_of_sides(experiment.data.shape[1:]),
                "network": tag_of(type(experiment.model)),
                "levels": experiment.schedule.levels,
                "batch_size": experiment.batch_size,
                "steps": experiment.steps,
                "where": SEARCH_ORDER[known.rank] if known.rank == 2 else where,
                "error": known.error,
            }
        )
    broken = [source for source in sources if source.file is None]
    return rows + [{"name": None, "where": relative(str(one.path)), "error": one.error} for one in broken]


def _runs(folder: "Path", sort: str | None) -> "list[RunSummary]":
    if not folder.is_dir():
        return []  # without the modules that read runs, which take longer to import than the rest of the command
    from ncsnx.runs.summaries import ordered, summaries

    return summaries(folder) if sort is None else ordered(summaries(folder), sort)
