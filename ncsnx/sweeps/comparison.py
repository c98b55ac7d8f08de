"""Compares the settings of a parameter sweep: mean and standard deviation over the seeds of each, the best first.

Only settings whose numbers have one protocol are ranked together: a loss with other weights, or a distance to other
images, is another quantity.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import attrs

from ncsnx.config.codec import flatten
from ncsnx.config.converter import unstructure
from ncsnx.errors import NcsnxError
from ncsnx.evaluation.plots import BLUE, GRAY, drawable, new_figure, style, write
from ncsnx.quantities import counted
from ncsnx.results import Result, Table
from ncsnx.runs.ledger import MeasurementProtocol, Quantity, Row, value
from ncsnx.runs.measurements import MeasuredRow, Measurements, csv_of
from ncsnx.runs.summaries import RunSummary
from ncsnx.sweeps.points import SEED, SweepPoint, short_paths

MOST_DRAWN = 40
"""Most settings in a plot, the best ones."""
_LONGEST_LABEL = 40


@attrs.frozen(kw_only=True)
class RunNumber:
    """A number of a run, lower is better."""

    protocol: MeasurementProtocol
    value: float
    facts: Mapping[str, Any]
    """The whole protocol as JSON, with what belongs to the run's subject."""
    words: tuple[str, ...] = ()
    """Facts of the run's subject, in words."""


Numbers = Mapping[str, Mapping[str, RunNumber]]
"""Key of a measure, in JSON and CSV ('fid', 'loss' or 'held_out') → name of a run → its number, where it has one."""


@attrs.frozen(kw_only=True, repr=False)
class ComparedSettings(Result):
    """Settings of a sweep, a table for each protocol, the best first in each."""

    name: str
    """Name of the sweep."""
    tables: Sequence[Measurements]
    plot: Path | None = None
    """Table and plots without their suffixes; None if none were written."""
    failures: Sequence[str] = ()
    """Runs that failed, and runs that have no score."""

    @property
    def best(self) -> MeasuredRow | None:
        """The best setting; None if nothing was measured, or by several protocols."""
        return self.tables[0].best_row if len(self.tables) == 1 else None

    def shown(self) -> Sequence[Table | str]:
        if len(self.tables) == 1:
            return self.tables[0].shown()
        return [part for one in self.tables for part in (one.table(), f"protocol: {one.caption}")]

    def closing(self) -> Sequence[str]:
        lines = [] if self.plot is None else [f"table and plot: {self.plot}.csv, .png, .svg"]
        if len(self.tables) > 1:
            lines += dict.fromkeys(filter(None, (one.errors_in_words() for one in self.tables)))
            facts = [dict(flatten(dict(one.protocol))) for one in self.tables]
            differing = {path for path in {*chain(*facts)} if len({str(one.get(path)) for one in facts}) > 1}
            # without the key of the measure, and runs' own identities
            paths = sorted({path.partition(".")[2] for path in differing} - {"identity"})
            lines.append(
                f"{counted(len(self.tables), 'protocol')}, not ranked together: they differ in {', '.join(paths)}"
            )
            return lines
        return [*lines, *self.tables[0].closing()]

    def problem(self) -> NcsnxError | None:
        return NcsnxError("; ".join(self.failures)) if self.failures else None

    def to_json(self) -> object:
        return {"sweep": self.name, "tables": [one.to_json() for one in self.tables]}

    def heading(self) -> tuple[str, str]:
        return f"sweep {self.name}", counted(sum(len(one.rows) for one in self.tables), "setting")

    def remarks(self) -> Sequence[str]:
        return [line for one in self.tables for line in one.remarks() if line]


def is_finished(point: SweepPoint, state: RunSummary | None) -> bool:
    """Whether the run of a point has reached its last step. state: None if there is no such run."""
    return state is not None and point.experiment.is_complete(state.step or 0)


def compared_settings(
    name: str, points: Sequence[SweepPoint], states: Mapping[str, RunSummary | None], numbers: Numbers
) -> list[Measurements]:
    """The settings of a sweep, a table for each protocol; in each by the mean of the first measure, ascending.

    states: how far each run is, by its name; None for a run that does not exist. Settings of which runs lack a number
    come last, and none of them is the best.
    """
    settings: dict[tuple[tuple[str, str], ...], list[SweepPoint]] = {}
    for point in points:
        settings.setdefault(tuple(point.setting.items()), []).append(point)
    groups: list[tuple[list[str], list[list[SweepPoint]]]] = []
    measured = [(_protocols_of(runs, numbers), runs) for runs in settings.values()]
    for wanted, runs in sorted(measured, key=lambda pair: "" in pair[0]):
        for known, group in groups:
            if all(one == other or not one or not other for one, other in zip(known, wanted, strict=True)):
                known[:] = [one or other for one, other in zip(known, wanted, strict=True)]
                group.append(runs)
                break
        else:
            groups.append((list(wanted), [runs]))
    return [_table(name, group, states, numbers) for _, group in groups]


def _protocols_of(runs: Sequence[SweepPoint], numbers: Numbers) -> tuple[str, ...]:
    """The protocols of a setting, in order of the measures; '' where it has no number, which fits any protocol."""
    return tuple(
        "+".join(sorted({by_run[point.run].protocol.digest for point in runs if point.run in by_run}))
        for by_run in numbers.values()
    )


def _table(
    name: str, settings: Sequence[Sequence[SweepPoint]], states: Mapping[str, RunSummary | None], numbers: Numbers
) -> Measurements:
    paths, columns, found = list(settings[0][0].setting), list[Quantity](), dict[str, list[RunNumber]]()
    for key, by_run in numbers.items():
        known = [by_run[point.run] for runs in settings for point in runs if point.run in by_run]
        if known:
            found[key] = known
            deviation = "standard deviation over seeds"
            columns.append(Quantity(key, known[0].protocol.metric, error=f"{key}_deviation", plus_minus=deviation))
    rows = [_row(runs, states, numbers) for runs in settings]
    if columns:

        def rank(row: MeasuredRow) -> tuple[bool, float]:
            score = columns[0].value_in(row.values)
            return not row.is_ranked, math.inf if score is None else score

        rows.sort(key=rank)
    return Measurements(
        metric=", ".join(known[0].protocol.metric for known in found.values()),
        where=name,
        names=tuple(paths),
        columns=tuple(columns),
        rows=tuple(rows),
        protocol={key: _common_facts(known) for key, known in found.items()},
        caption=". ".join(map(_common_caption, found.values())),
        marks_best=len(rows) > 1,
    )


def _common_facts(numbers: Sequence[RunNumber]) -> dict[str, Any]:
    """The facts that all of these numbers have in common."""
    first, *others = (one.facts for one in numbers)
    return {key: fact for key, fact in first.items() if all(key in one and one[key] == fact for one in others)}


def _common_caption(numbers: Sequence[RunNumber]) -> str:
    """The protocol in words, with what all of these numbers have in common."""
    first, *others = numbers
    words = [word for word in first.words if all(word in one.words for one in others)]
    return f"{first.protocol.metric}: {'; '.join(filter(None, [', '.join(words), first.protocol.caption]))}"


def _row(runs: Sequence[SweepPoint], states: Mapping[str, RunSummary | None], numbers: Numbers) -> MeasuredRow:
    values: Row = {}
    for key, by_run in numbers.items():
        found = [by_run[point.run].value for point in runs if point.run in by_run]
        values[key] = statistics.fmean(found) if found else None
        values[f"{key}_deviation"] = statistics.stdev(found) if len(found) > 1 else None
        values[f"{key}_runs"] = len(found)
    finished = sum(is_finished(point, states[point.run]) for point in runs)
    given = dict(flatten(unstructure(runs[0].experiment)))
    setting = {path: given.get(path, text) for path, text in runs[0].setting.items()}
    facts = {"setting": setting, "runs": [_run(point, states[point.run], numbers) for point in runs]}
    names, remark = tuple(runs[0].setting.values()), f"{finished} of {counted(len(runs), 'run')} finished"
    is_ranked = all(values[f"{key}_runs"] == len(runs) for key in list(numbers)[:1])
    remark = "" if finished == len(runs) else remark
    return MeasuredRow(names=names, facts=facts, values=values, remark=remark, is_ranked=is_ranked)


def _run(point: SweepPoint, state: RunSummary | None, numbers: Numbers) -> dict[str, Any]:
    return {
        "run": point.run,
        "seed": point.experiment.seed,
        "finished": is_finished(point, state),
        "step": 0 if state is None else state.step,
        "training_loss": None if state is None else state.loss,
        **{key: by_run[point.run].value if point.run in by_run else None for key, by_run in numbers.items()},
    }


def comparison_csv(tables: Sequence[Measurements]) -> bytes:
    """A line for each run, best setting first, with the number of its table."""
    return csv_of(
        [
            {"run": run["run"], **row.facts["setting"], SEED: run["seed"], **run, "table": place}
            for place, one in enumerate(tables, start=1)
            for row in one.rows
            for run in row.facts["runs"]
        ]
    )


def plot_settings(stem: Path, table: Measurements) -> None:
    """Draws the numbers of the settings, a panel each, into `stem`.png and `stem`.svg.

    Settings stand below each other, the best first: the mean as a large mark with a bar of one standard deviation, runs
    as small marks. Raises NcsnxError if a file can't be written.
    """
    drawn, count = table.rows[:MOST_DRAWN], len(table.columns)
    caption = f"{table.caption}."
    if len(drawn) < len(table.rows):
        caption += f" The best {len(drawn):,} of {counted(len(table.rows), 'setting')}."
    with style():
        figure = new_figure(3.0 + 2.6 * count, 1.3 + 0.2 * max(len(drawn), 3), table.where, caption)
        panels = figure.subplots(1, count, squeeze=False, sharey=True)[0]
        for axes, column in zip(panels, table.columns, strict=True):
            for place, row in enumerate(drawn):
                found = [run[column.key] for run in row.facts["runs"] if run[column.key] is not None]
                axes.plot(found, [place] * len(found), ".", color=GRAY, markersize=3)
                if (mean := value(row.values, column.key)) is not None:
                    axes.errorbar(mean, place, xerr=column.error_in(row.values), fmt="o", color=BLUE)
            axes.set_xlabel(drawable(column.title), parse_math=False)
            axes.grid(axis="y", linewidth=0.3, color="#dddddd")
        panels[0].set_yticks(range(len(drawn)), labels=[drawable(_label(row)) for row in drawn], parse_math=False)
        panels[0].set_ylim(len(drawn) - 0.5, -0.5)
        write(stem, figure)


def _label(row: MeasuredRow) -> str:
    """The setting of a row in words; a long one by its end."""
    labels = short_paths(list(row.facts["setting"]))
    words = " ".join(f"{label}={text}" for label, text in zip(labels.values(), row.names, strict=False)) or "all seeds"
    return words if len(words) <= _LONGEST_LABEL else f"…{words[1 - _LONGEST_LABEL :]}"
