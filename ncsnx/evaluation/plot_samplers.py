"""The plot of a comparison of samplers: distance against network evaluations."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from ncsnx.config.sampler import Sampler
from ncsnx.config.variants import variants
from ncsnx.evaluation import plots
from ncsnx.samplers.contract import definition_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette, with grey for its yellow, which is hard to see on white; with the markers, 64 samplers differ
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#777777")
_MARKERS = "osD^vP*X"


@attrs.frozen
class Point:
    """A sampler setting in the plot."""

    sampler: str
    """Tag of the sampler."""
    evaluations: float
    """Network evaluations per image."""
    distance: float
    spread: float | None
    """Standard deviation of the distance over the seeds, drawn as an error bar."""
    breaks_more: bool
    """Whether it breaks too many images to be usable; drawn hollow."""


def plot_samplers(
    stem: Path, points: Sequence[Point], *, metric: str, title: str, caption: str, best: int | None
) -> tuple[Path, Path]:
    """Draws distances against evaluations, both on logarithmic axes, into `stem`.png and `stem`.svg.

    best: the index of the recommended point, which gets a ring. Raises NcsnxError if a file can't be written.
    """
    with plots.style():
        figure = plots.new_figure(6.2, 3.8, title, caption)
        axes = figure.add_subplot()
        for tag in dict.fromkeys(point.sampler for point in points):
            _draw(axes, [point for point in points if point.sampler == tag], *look_of(tag))
        if best is not None:
            chosen = points[best]
            axes.plot(
                [chosen.evaluations], [chosen.distance], "o", markersize=11, fillstyle="none", color="#555555",
                markeredgewidth=1.0, linestyle="none", label="sampler=fast",
            )  # fmt: skip
        axes.set_xscale("log")
        axes.set_yscale("log")
        _limit(axes, points)
        axes.set_xlabel("network evaluations per image")
        axes.set_ylabel(f"{metric} (lower is better)", parse_math=False)
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), handlelength=1.4)
        return plots.write(stem, figure)


def look_of(tag: str) -> tuple[str, str, str]:
    """(label, colour, marker) of a sampler, by its position in the registry and so the same in every plot."""
    known = variants(Sampler)
    number = list(known).index(tag)
    sampler = known[tag]
    assert issubclass(sampler, Sampler)
    label = definition_of(sampler).label or tag
    return label, _COLOURS[number % len(_COLOURS)], _MARKERS[(number + number // len(_COLOURS)) % len(_MARKERS)]


def _draw(axes: "Axes", points: Sequence[Point], label: str, colour: str, marker: str) -> None:
    look: dict[str, Any] = {"color": colour, "ecolor": colour, "elinewidth": 0.7, "linestyle": "none", "marker": marker}
    for hollow in (False, True):
        some = [point for point in points if point.breaks_more == hollow]
        if some:
            axes.errorbar(
                [point.evaluations for point in some],
                [point.distance for point in some],
                [point.spread or 0.0 for point in some],
                markerfacecolor="white" if hollow else colour,
                label=label if not hollow or len(some) == len(points) else None,
                **look,
            )


def _limit(axes: "Axes", points: Sequence[Point]) -> None:
    evaluations = [point.evaluations for point in points]
    low, high = min(evaluations) / 1.3, max(evaluations) * 1.3
    axes.set_xlim(low, high)
    plots.set_log_ticks(axes.xaxis, low, high)
    distances = [point.distance for point in points if math.isfinite(point.distance) and point.distance > 0]
    if distances:
        low, high = min(distances) / 1.3, max(distances) * 1.3
        axes.set_ylim(low, high)
        plots.set_log_ticks(axes.yaxis, low, high)
