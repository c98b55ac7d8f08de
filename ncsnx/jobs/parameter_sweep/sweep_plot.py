"""Plot of a parameter sweep: a number of each setting, with its spread over seeds and the single runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ncsnx.evaluation.plots import drawable, new_figure, set_log_ticks, style, write
from ncsnx.jobs.parameter_sweep.sweep_comparison import MeasuredRuns, SweepSetting
from ncsnx.quantities import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_DRAWN = 40
"""Most settings in a plot, the best ones."""
_PANEL_IN, _ROW_IN, _AROUND_IN = 2.6, 0.2, 1.3
_LEAST_LABELS_IN, _CHARACTER_IN = 2.2, 0.063
_LOG_FROM = 10.0
"""Ratio of the largest to the smallest number from which an axis is logarithmic."""
_BLUE, _GREY = "#0072B2", "#999999"


def plot_settings(stem: Path, settings: Sequence[SweepSetting], measured: Sequence[MeasuredRuns], title: str) -> None:
    """Draws the measured numbers of the settings, a panel each, into `stem`.png and `stem`.svg.

    Settings stand below each other in the given order: the mean as a large mark with a bar of one standard deviation,
    runs as small marks. Raises NcsnxError if a file can't be written.
    """
    drawn = settings[:MOST_DRAWN]
    left_out = f" The best {len(drawn):,} of {counted(len(settings), 'setting')}." if len(drawn) < len(settings) else ""
    caption = " ".join(f"{one.title}: {one.caption}." for one in measured) + left_out
    labels = [drawable(setting.name) for setting in drawn]
    beside = max(_LEAST_LABELS_IN, _CHARACTER_IN * max(map(len, labels)))
    with style():
        height = _AROUND_IN + _ROW_IN * max(len(drawn), 3)
        figure = new_figure(beside + _PANEL_IN * len(measured), height, title, caption)
        panels = figure.subplots(1, len(measured), squeeze=False, sharey=True)[0]
        for axes, one in zip(panels, measured, strict=True):
            _draw(axes, drawn, one)
        panels[0].set_yticks(range(len(drawn)), labels=labels, parse_math=False)
        panels[0].set_ylim(len(drawn) - 0.5, -0.5)
        write(stem, figure)


def _draw(axes: "Axes", settings: Sequence[SweepSetting], measured: MeasuredRuns) -> None:
    found = [(place, spread) for place, one in enumerate(settings) if (spread := one.spreads[measured.key]) is not None]
    runs = [
        (place, measured.by_run[point.run])
        for place, setting in enumerate(settings)
        for point in setting.points
        if point.run in measured.by_run
    ]
    axes.plot([value for _, value in runs], [place for place, _ in runs], ".", color=_GREY, markersize=3, zorder=1)
    axes.errorbar(
        [spread.mean for _, spread in found],
        [place for place, _ in found],
        xerr=[spread.deviation or 0.0 for _, spread in found],
        fmt="o",
        color=_BLUE,
        elinewidth=0.8,
        capsize=0,
        zorder=2,
    )
    values = [value for _, value in runs]
    if values and min(values) > 0 and max(values) > _LOG_FROM * min(values):
        axes.set_xscale("log", nonpositive="clip")
        set_log_ticks(axes.xaxis)
    axes.set_xlabel(drawable(measured.title), parse_math=False)
    axes.grid(axis="y", linewidth=0.3, color="#dddddd")
    axes.set_axisbelow(True)
