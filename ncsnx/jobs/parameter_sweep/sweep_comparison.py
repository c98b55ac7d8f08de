"""Compares the settings of a parameter sweep: mean and standard deviation over the seeds of each, the best first."""

import csv
import io
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from ncsnx.jobs.parameter_sweep.axes import SEED
from ncsnx.jobs.parameter_sweep.point_names import short_paths
from ncsnx.jobs.parameter_sweep.points import SweepPoint
from ncsnx.jobs.parameter_sweep.sweep_training import PointStatus
from ncsnx.quantities import number, with_error

_MOST_IN_VALUE = 24
"""Most characters of a value in the name of a setting."""


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


@attrs.frozen
class SeedSpread:
    """Mean of a number over runs that differ in their seed only."""

    mean: float
    deviation: float | None
    """Standard deviation of one run; None for a single one."""
    count: int

    @classmethod
    def over(cls, values: Sequence[float]) -> "SeedSpread | None":
        """The spread of some values, None without any."""
        if not values:
            return None
        deviation = statistics.stdev(values) if len(values) > 1 else None
        return cls(statistics.fmean(values), deviation, len(values))

    def in_words(self, runs: int) -> str:
        """The mean with its error and the number of values; the mean alone if the setting has a single run."""
        if runs == 1:
            return number(self.mean)
        return f"{with_error(self.mean, self.deviation)} ({self.count})"

    def as_json(self) -> dict[str, float | int | None]:
        """The spread as plain values."""
        return {"mean": self.mean, "deviation": self.deviation, "n": self.count}


@attrs.frozen(kw_only=True)
class SweepSetting:
    """The runs that differ in their seed only."""

    values: dict[str, str]
    """Dotted path → value, without the seed."""
    points: tuple[SweepPoint, ...]
    states: tuple[PointStatus, ...]
    spreads: dict[str, SeedSpread | None]
    """Key of a measured number → its spread."""

    @property
    def finished(self) -> int:
        """Number of runs that have reached their last step."""
        return sum(one.state == "finished" for one in self.states)

    @property
    def name(self) -> str:
        """The values in words, long ones by their end; for seeds of a single setting, that there is nothing else."""
        labels = short_paths(list(self.values))
        return " ".join(f"{labels[path]}={_end(value)}" for path, value in self.values.items()) or "all seeds"


def _end(value: str) -> str:
    return value if len(value) <= _MOST_IN_VALUE else f"…{value[1 - _MOST_IN_VALUE :]}"


def held_out_in_training(states: Iterable[PointStatus]) -> list[MeasuredRuns]:
    """The last held-out losses that the finished runs have on record; empty if none has one."""
    by_run = {one.run: one.held_out for one in states if one.state == "finished" and one.held_out is not None}
    caption = "on one batch, at the last evaluation of the training"
    return [MeasuredRuns(key="held_out", title="held-out loss", caption=caption, by_run=by_run)] if by_run else []


def compared_settings(
    points: Sequence[SweepPoint], states: Mapping[str, PointStatus], measured: Sequence[MeasuredRuns]
) -> list[SweepSetting]:
    """The settings of a sweep, by the mean of the first measured number, ascending; those without it last.

    states: name of a run → how far it has come.
    """
    groups: dict[tuple[tuple[str, str], ...], list[SweepPoint]] = {}
    for point in points:
        groups.setdefault(tuple(point.setting.items()), []).append(point)
    found = [
        SweepSetting(
            values=dict(values),
            points=tuple(group),
            states=tuple(states[point.run] for point in group),
            spreads={
                one.key: SeedSpread.over([one.by_run[point.run] for point in group if point.run in one.by_run])
                for one in measured
            },
        )
        for values, group in groups.items()
    ]

    def rank(setting: SweepSetting) -> float:
        spread = setting.spreads[measured[0].key] if measured else None
        return math.inf if spread is None else spread.mean

    return sorted(found, key=rank)  # stable: equal ones stay in the order of the sweep


def as_table(settings: Sequence[SweepSetting], measured: Sequence[MeasuredRuns]) -> tuple[list[str], list[list[str]]]:
    """Titles and rows of a table of the settings."""
    paths = list(settings[0].values) if settings else []
    titles = [*paths, "finished", *(one.title for one in measured)]
    rows = [
        [
            *setting.values.values(),
            f"{setting.finished}/{len(setting.points)}",
            *(
                "" if (spread := setting.spreads[one.key]) is None else spread.in_words(len(setting.points))
                for one in measured
            ),
        ]
        for setting in settings
    ]
    return titles, rows


def comparison_values(settings: Sequence[SweepSetting], measured: Sequence[MeasuredRuns]) -> list[dict[str, Any]]:
    """The settings with their runs, as JSON values."""
    return [
        {
            "values": setting.values,
            **{one.key: None if (found := setting.spreads[one.key]) is None else found.as_json() for one in measured},
            "runs": [
                {
                    "run": point.run,
                    "seed": point.experiment.seed,
                    "state": status.state,
                    "step": status.step,
                    "training_loss": status.loss,
                    **{one.key: one.by_run.get(point.run) for one in measured},
                }
                for point, status in zip(setting.points, setting.states, strict=True)
            ],
        }
        for setting in settings
    ]


def comparison_csv(settings: Sequence[SweepSetting], measured: Sequence[MeasuredRuns]) -> bytes:
    """A line for each run, best setting first."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    paths = list(settings[0].values) if settings else []
    writer.writerow(["run", *paths, SEED, "state", "step", "training_loss", *(one.key for one in measured)])
    for row in comparison_values(settings, measured):
        for run in row["runs"]:
            cells = [run["run"], *row["values"].values(), run["seed"], run["state"], run["step"], run["training_loss"]]
            writer.writerow([*cells, *(run[one.key] for one in measured)])
    return text.getvalue().encode("utf-8")
