"""Plots of measurements, as PNG and as SVG that keeps text as text."""

import io
import math
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ncsnx.quantities import percent, with_error
from ncsnx.runs.ledger import Row, lowest, value
from ncsnx.storage.atomic import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from torch import Tensor

_FONT = "DejaVu Sans"  # comes with matplotlib, so plots look the same everywhere
# From the palette of Okabe and Ito, distinct for color-blind readers and in black and white; gray for its yellow.
BLUE, VERMILION, GRAY = "#0072B2", "#D55E00", "#555555"
_COLORS = (BLUE, VERMILION, "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#777777")
_MARKERS = "osD^vP*X"
DASHED = (0, (4, 2.5))
_LOG_FROM = 10.0  # ratio of largest to smallest value above which an axis is logarithmic

_STYLE: dict[str, Any] = {
    "figure.dpi": 200,
    "font.family": "sans-serif",
    "font.sans-serif": [_FONT, "Verdana", "Arial", "Helvetica"],  # fallbacks for SVGs on machines without it
    "font.size": 7.5,
    "axes.labelsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.use_mathtext": False,
    "text.parse_math": False,
    "lines.linewidth": 1.3,
    "lines.markersize": 3.5,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "ncsnx",
}


def plot_scores(
    stem: Path, rows: Sequence[Row], *, metric: str, title: str, caption: str, perfect: tuple[float, float] | None
) -> None:
    """Draws the scores of a sweep against training steps, with their errors, into `stem`.png and `stem`.svg.

    The best checkpoint is marked. perfect: score of a perfect model and its spread, drawn as a dashed line in a band of
    ± one spread. caption: the protocol, below the axes. The axis is logarithmic if scores span more than a factor of
    ten. Equal arguments give identical files on one machine. Raises NcsnxError if a file can't be written.
    """
    with style():
        figure = new_figure(5.0, 3.4, title, caption)
        axes = figure.add_subplot()
        steps, scores = [row["step"] for row in rows], [row["score"] for row in rows]
        _draw_curve(axes, steps, scores, [value(row, "error") for row in rows])
        _mark_best(axes, rows)
        if perfect is not None:
            score, spread = perfect
            axes.axhspan(score - spread, score + spread, color=GRAY, alpha=0.2, linewidth=0)
            label = f"perfect model: {with_error(score, spread)}"
            axes.axhline(score, color=GRAY, linewidth=0.9, linestyle=DASHED, label=label)
        axes.set_ylabel(f"{_wrapped(metric, 40)}\n(lower is better)")
        _legend_above(axes)
        write(stem, figure)


def plot_losses(stem: Path, rows: Sequence[Row], sigmas: Sequence[float], *, title: str, caption: str) -> None:
    """Draws mean held-out losses against training steps, and losses per level against σ, the best step highlighted.

    rows: rows of a sweep with 'levels', the loss at each of the `sigmas`. For the rest see `plot_scores`.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    steps, best = [row["step"] for row in rows], lowest(rows, lambda row: value(row, "score"))
    with style():
        figure = new_figure(7.0, 3.2, title, caption)
        over_steps, over_levels = figure.subplots(1, 2, width_ratios=[1, 1.15])
        _draw_curve(over_steps, steps, [row["score"] for row in rows], [None] * len(rows))
        _mark_best(over_steps, rows)
        over_steps.set_ylabel("mean held-out loss")
        _legend_above(over_steps)
        scale, colors = Normalize(min(steps), max(steps) + 1), colormaps["cividis_r"]
        for row in rows:
            losses = [math.nan if loss is None else loss for loss in row["levels"]]
            look = {"color": colors(scale(row["step"])), "linewidth": 1.0, "markersize": 2.2}
            best_look = {"color": VERMILION, "linewidth": 1.8, "zorder": 5}
            over_levels.plot(sigmas, losses, marker=".", **(best_look if row is best else look))
        scale_values(over_levels)
        over_levels.set(xscale="log", xlabel="noise level σ", ylabel="held-out loss per level")
        set_log_ticks(over_levels.xaxis)
        figure.colorbar(ScalarMappable(scale, colors), ax=over_levels, label="training steps")
        write(stem, figure)


def plot_samplers(stem: Path, rows: Sequence[Row], *, metric: str, title: str, caption: str) -> None:
    """Draws distances against evaluations, both on logarithmic axes, into `stem`.png and `stem`.svg.

    rows: 'evaluations', 'score' and 'error' of each setting, the 'label' of its sampler and its 'number' in the
    registry, which determines color and marker; settings that aren't 'usable' are hollow, the 'fast' one has a ring.
    Raises NcsnxError if a file can't be written.
    """
    with style():
        figure = new_figure(6.2, 3.8, title, caption)
        axes = figure.add_subplot()
        for row in rows:
            line, place = divmod(row["number"], len(_COLORS))
            color, marker = _COLORS[place], _MARKERS[(place + line) % len(_MARKERS)]
            axes.errorbar(
                [row["evaluations"]],
                [row["score"]],
                [row["error"] or 0.0],
                linestyle="none",
                marker=marker,
                color=color,
                markerfacecolor=color if row["usable"] else "white",
                label=row["label"],
            )
            if row["fast"]:
                ring: dict[str, Any] = {"markersize": 11, "fillstyle": "none", "color": GRAY, "linestyle": "none"}
                axes.plot([row["evaluations"]], [row["score"]], "o", label="sampler=fast", **ring)
        axes.set(xscale="log", yscale="log", xlabel="network evaluations per image")
        set_log_ticks(axes.xaxis)
        set_log_ticks(axes.yaxis)
        axes.set_ylabel(f"{drawable(metric)} (lower is better)")
        handles, labels = axes.get_legend_handles_labels()
        once = dict(zip(labels, handles, strict=True))
        axes.legend(once.values(), once.keys(), loc="upper left", bbox_to_anchor=(1, 1), handlelength=1.4)
        write(stem, figure)


def plot_distances(
    stem: Path, spaces: Mapping[str, "tuple[Tensor, Tensor]"], *, near: float, title: str, caption: str
) -> None:
    """Draws cumulative distributions of distances into `stem`.png and `stem`.svg, one panel per space.

    spaces: (n,) distances of samples and (m,) of held-out images, m ≥ 0, by name of the space. A dotted line marks the
    quantile `near` of the held-out distances. For the rest see `plot_scores`. Raises NcsnxError.
    """
    with style():
        figure = new_figure(3.2 * len(spaces) + 0.2, 3.5, title, caption)
        panels = figure.subplots(1, len(spaces), squeeze=False)[0]
        for axes, (name, (samples, held_out)) in zip(panels, spaces.items(), strict=True):
            if len(held_out):
                label = f"held out ({len(held_out):,})"
                axes.ecdf(held_out.numpy(), color=GRAY, linestyle=DASHED, label=label)
                limit = float(held_out.quantile(near))
                label = f"nearest {percent(near)} of held out"
                axes.axvline(limit, color=GRAY, linewidth=0.7, linestyle=":", label=label)
            axes.ecdf(samples.numpy(), color=VERMILION, label=f"samples ({len(samples):,})")
            axes.set_xlim(left=0)
            axes.set_xlabel(f"distance in {name}")
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1))  # above the axes, where it covers no curve
        panels[0].set_ylabel("cumulative share of images")
        write(stem, figure)


# Figures


@contextmanager
def style() -> Iterator[None]:
    """Applies the style of these plots to matplotlib's defaults, independent of the user's and process's settings."""
    from matplotlib import style

    with style.context(["default", _STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # the font lacks a character of somebody's name
        yield


def new_figure(width_in: float, height_in: float, title: str, caption: str) -> "Figure":
    """A figure with a title above and a caption below the area for axes; the lines of the caption add to the height."""
    from matplotlib.figure import Figure

    below = _wrapped(caption, int(18 * width_in))
    figure = Figure(figsize=(width_in, height_in + 0.11 * max(0, below.count("\n") - 2)), layout="constrained")
    figure.suptitle(_wrapped(title, int(12 * width_in)), fontsize=9.5)
    figure.supxlabel(below, fontsize=6.5, color=GRAY)
    return figure


def write(stem: Path, figure: "Figure") -> None:
    """Writes the figure as `stem`.png and `stem`.svg. Raises NcsnxError."""
    for kind, metadata in (("png", {"Software": "ncsnx"}), ("svg", {"Creator": "ncsnx", "Date": None})):
        content = io.BytesIO()
        figure.savefig(content, format=kind, metadata=metadata)
        write_bytes(stem.with_name(f"{stem.name}.{kind}"), content.getvalue())


def set_log_ticks(axis: "Axis") -> None:
    """Labels a logarithmic axis in plain numbers, one, two or five times a power of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 300 * low else (1,)))
    axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axis.set_minor_formatter(NullFormatter())


def drawable(text: str) -> str:
    """Text without characters that break the plot or its XML, or reorder the text; names come from other people."""
    return "".join(character if character.isprintable() else " " for character in text)


def _wrapped(text: str, width: int) -> str:
    return "\n".join(textwrap.wrap(drawable(text), width))


def _draw_curve(
    axes: "Axes", steps: Sequence[int], numbers: Sequence[float | None], errors: Sequence[float | None]
) -> None:
    """Numbers against training steps with error bars; None is a gap, or no error bar."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    drawn = [math.nan if number is None else number for number in numbers]
    axes.errorbar(steps, drawn, [error or 0.0 for error in errors], marker="o", color=BLUE, elinewidth=0.8)
    scale_values(axes)
    axes.set_xlabel("training steps")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def scale_values(axes: "Axes") -> None:
    """Makes the axis of values logarithmic if the drawn values are positive and span more than a factor of ten."""
    drawn = [float(y) for line in axes.lines for y in np.asarray(line.get_ydata()) if math.isfinite(y)]
    if drawn and 0 < _LOG_FROM * min(drawn) < max(drawn):
        axes.set_yscale("log", nonpositive="clip")
        set_log_ticks(axes.yaxis)


def _mark_best(axes: "Axes", rows: Sequence[Row]) -> None:
    best = lowest(rows, lambda row: value(row, "score"))
    if best is None:
        return
    step, score = best["step"], best["score"]
    label = f"best: {with_error(score, value(best, 'error'))} at step {step:,}"
    axes.plot([step], [score], "*", markersize=11, markeredgecolor="white", color=VERMILION, label=label, zorder=5)


def _legend_above(axes: "Axes") -> None:
    """Puts the legend above the axes, away from the curves."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.3, borderpad=0, handlelength=1.6)
