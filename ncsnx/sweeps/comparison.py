"""Compares the settings of a parameter sweep: mean and standard deviation over the seeds of each, the best first."""

import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from ncsnx.errors import NcsnxError
from ncsnx.evaluation.plots import drawable, new_figure, style, write
from ncsnx.quantities import counted, number, with_error
from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import checkpoints
from ncsnx.runs.metrics_log import MetricsLog
from ncsnx.sweeps.points import SEED, SweepPoint, short_paths

MOST_DRAWN = 40
"""Most settings in a plot, the best ones."""
_LONGEST_LABEL = 40


@attrs.frozen(kw_only=True)
class PointStatus:
    """How far the run of a point is, by its files."""

    step: int
    """Step of its newest checkpoint; 0 without one."""
    is_finished: bool
    loss: float | None
    """Last training loss on record."""
    held_out: float | None
    """Last held-out loss on record."""

    @classmethod
    def of(cls, run: Run, point: SweepPoint) -> "PointStatus":
        """The status of a run, which need not exist."""
        step = max(checkpoints(run), default=0) if run.path.exists() else 0
        try:
            records = MetricsLog(run).read() if run.path.exists() else []
        except NcsnxError:
            records = []
        loss, held_out = (
            next((row[key] for row in reversed(records) if key in row), None) for key in ("loss", "held_out")
        )
        return cls(step=step, is_finished=step >= point.experiment.steps, loss=loss, held_out=held_out)


@attrs.frozen(kw_only=True)
class MeasuredRuns:
    """One number of each run, lower is better."""

    key: str
    """Key in JSON, and column of the CSV file: 'fid', 'loss' or 'held_out'."""
    title: str
    caption: str
    """The protocol in words."""
    by_run: Mapping[str, float]
    """Name of a run → its number; runs without one are left out."""


@attrs.frozen(kw_only=True)
class SweepSetting:
    """The runs that differ in their seed only."""

    values: dict[str, str]
    """Dotted path → value, without the seed."""
    points: tuple[SweepPoint, ...]
    numbers: dict[str, list[float]]
    """Key of a measured number → its values, one for each run that has it."""

    def mean(self, key: str) -> float:
        """Mean of a number over the runs; infinity if no run has it."""
        return statistics.fmean(self.numbers[key]) if self.numbers.get(key) else math.inf

    def deviation(self, key: str) -> float | None:
        """Standard deviation of one run; None for fewer than two."""
        return statistics.stdev(self.numbers[key]) if len(self.numbers[key]) > 1 else None

    def in_words(self, key: str) -> str:
        """Mean, standard deviation and number of runs; the mean alone if the setting has a single run."""
        if not self.numbers[key]:
            return ""
        if len(self.points) == 1:
            return number(self.mean(key))
        return f"{with_error(self.mean(key), self.deviation(key))} ({len(self.numbers[key])})"

    @property
    def name(self) -> str:
        """The values in words; long ones by their end."""
        labels = short_paths(list(self.values))
        words = " ".join(f"{labels[path]}={value}" for path, value in self.values.items()) or "all seeds"
        return words if len(words) <= _LONGEST_LABEL else f"…{words[1 - _LONGEST_LABEL :]}"


def compared_settings(points: Sequence[SweepPoint], measured: Sequence[MeasuredRuns]) -> list[SweepSetting]:
    """The settings of a sweep, by the mean of the first measured number, ascending; those without it last."""
    groups: dict[tuple[tuple[str, str], ...], list[SweepPoint]] = {}
    for point in points:
        groups.setdefault(tuple(point.setting.items()), []).append(point)
    settings = [
        SweepSetting(
            values=dict(values),
            points=tuple(group),
            numbers={
                one.key: [one.by_run[point.run] for point in group if point.run in one.by_run] for one in measured
            },
        )
        for values, group in groups.items()
    ]
    return sorted(settings, key=lambda setting: setting.mean(measured[0].key)) if measured else settings


def as_table(
    settings: Sequence[SweepSetting], states: Mapping[str, PointStatus], measured: Sequence[MeasuredRuns]
) -> tuple[list[str], list[list[str]]]:
    """Titles and rows of a table of the settings. states: of the runs by name."""
    rows = [
        [
            *setting.values.values(),
            f"{sum(states[point.run].is_finished for point in setting.points)}/{len(setting.points)}",
            *(setting.in_words(one.key) for one in measured),
        ]
        for setting in settings
    ]
    return [*settings[0].values, "finished", *(one.title for one in measured)], rows


def comparison_values(
    settings: Sequence[SweepSetting], states: Mapping[str, PointStatus], measured: Sequence[MeasuredRuns]
) -> list[dict[str, Any]]:
    """The settings with their runs, as JSON values."""

    def run_values(point: SweepPoint) -> dict[str, Any]:
        status = states[point.run]
        return {
            "run": point.run,
            "seed": point.experiment.seed,
            "finished": status.is_finished,
            "step": status.step,
            "training_loss": status.loss,
            **{one.key: one.by_run.get(point.run) for one in measured},
        }

    def spread(setting: SweepSetting, key: str) -> dict[str, Any] | None:
        count = len(setting.numbers[key])
        return {"mean": setting.mean(key), "deviation": setting.deviation(key), "n": count} if count else None

    return [
        {
            "values": setting.values,
            **{one.key: spread(setting, one.key) for one in measured},
            "runs": [run_values(point) for point in setting.points],
        }
        for setting in settings
    ]


def comparison_csv(
    settings: Sequence[SweepSetting], states: Mapping[str, PointStatus], measured: Sequence[MeasuredRuns]
) -> bytes:
    """A line for each run, best setting first."""
    rows = [
        {"run": run["run"], **setting["values"], SEED: run["seed"], **run}
        for setting in comparison_values(settings, states, measured)
        for run in setting["runs"]
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8")


def plot_settings(stem: Path, settings: Sequence[SweepSetting], measured: Sequence[MeasuredRuns], title: str) -> None:
    """Draws the measured numbers of the settings, a panel each, into `stem`.png and `stem`.svg.

    Settings stand below each other, the best first: the mean as a large mark with a bar of one standard deviation, runs
    as small marks. Raises NcsnxError if a file can't be written.
    """
    drawn = settings[:MOST_DRAWN]
    caption = " ".join(f"{one.title}: {one.caption}." for one in measured)
    if len(drawn) < len(settings):
        caption += f" The best {len(drawn):,} of {counted(len(settings), 'setting')}."
    with style():
        height_in = 1.3 + 0.2 * max(len(drawn), 3)
        figure = new_figure(3.0 + 2.6 * len(measured), height_in, title, caption)
        panels = figure.subplots(1, len(measured), squeeze=False, sharey=True)[0]
        for axes, one in zip(panels, measured, strict=True):
            for place, setting in enumerate(drawn):
                numbers = setting.numbers[one.key]
                axes.plot(numbers, [place] * len(numbers), ".", color="#999999", markersize=3)
                if numbers:
                    axes.errorbar(
                        setting.mean(one.key), place, xerr=setting.deviation(one.key), fmt="o", color="#0072B2"
                    )
            axes.set_xlabel(drawable(one.title), parse_math=False)
            axes.grid(axis="y", linewidth=0.3, color="#dddddd")
        panels[0].set_yticks(range(len(drawn)), labels=[drawable(one.name) for one in drawn], parse_math=False)
        panels[0].set_ylim(len(drawn) - 0.5, -0.5)
        write(stem, figure)
