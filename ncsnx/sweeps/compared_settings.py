"""Settings of a sweep as `sweep` returns them, the best first."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted
from ncsnx.results import Column, Result, Table
from ncsnx.sweeps.comparison import MeasuredRuns, PointStatus, SweepSetting, as_table, comparison_values


@attrs.frozen(kw_only=True, repr=False)
class ComparedSettings(Result):
    """Settings of a sweep, the best first."""

    name: str
    """Name of the sweep."""
    settings: Sequence[SweepSetting]
    states: Mapping[str, PointStatus]
    """Name of a run → how far it is."""
    measured: Sequence[MeasuredRuns] = ()
    """Numbers of the runs; the first decides which setting is the best."""
    plot: Path | None = None
    """Table and plot without their suffixes; None if none were written."""
    failures: Sequence[str] = ()
    """Runs that failed, and runs that have no score."""

    @property
    def best(self) -> SweepSetting | None:
        """The best setting; None if nothing was measured."""
        if self.measured and self.settings[0].numbers[self.measured[0].key]:
            return self.settings[0]
        return None

    def shown(self) -> Sequence[Table | str]:
        titles, rows = as_table(self.settings, self.states, self.measured)
        return [Table(columns=[Column(title, "right") for title in titles], rows=rows)]

    def closing(self) -> Sequence[str]:
        lines = [] if self.plot is None else [f"table and plot: {self.plot}.csv, .png, .svg"]
        if self.best is not None:
            first = self.measured[0]
            lines.append(f"best: {self.best.name}, {first.title} {self.best.in_words(first.key)}")
        return lines

    def problem(self) -> NcsnxError | None:
        return NcsnxError("; ".join(self.failures)) if self.failures else None

    def to_json(self) -> object:
        protocols = {one.key: {"title": one.title, "protocol": one.caption} for one in self.measured}
        settings: list[dict[str, Any]] = comparison_values(self.settings, self.states, self.measured)
        return {"sweep": self.name, "measured": protocols, "settings": settings}

    def heading(self) -> tuple[str, str]:
        return f"sweep {self.name}", counted(len(self.settings), "setting")


@attrs.frozen(kw_only=True, repr=False)
class SweepStatus(ComparedSettings):
    """The runs of a sweep, and how far they are."""

    def shown(self) -> Sequence[Table | str]:
        rows = [
            (point.run, f"{self.states[point.run].step:,}/{point.experiment.steps:,}")
            for setting in self.settings
            for point in setting.points
        ]
        return [Table(columns=[Column("run"), Column("step", "right")], rows=rows)]

    def closing(self) -> Sequence[str]:
        return ()
