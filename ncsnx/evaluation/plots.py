"""Plots of scores and held-out losses over checkpoints, as PNG and as SVG that keeps text as text."""

import io
import math
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import attrs

from ncsnx.evaluation.axis_ticks import log_ticks
from ncsnx.quantities import with_error
from ncsnx.storage.atomic import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.colors import Colormap, Normalize
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_DOTS_PER_INCH = 200
_FONT = "DejaVu Sans"  # comes with matplotlib, so plots look the same everywhere
_MARGIN_IN = 0.08
_TITLE_POINTS, _LABEL_POINTS, _TICK_POINTS, _SMALL_POINTS = 9.5, 8.5, 7.5, 6.5
_INCLUDED_LINES = {"title": 1, "caption": 3}  # more lines make the figure higher rather than the axes smaller

# From the palette of Okabe and Ito, distinct for colour-blind readers and in black and white.
_BLUE, _VERMILION, _GREY = "#0072B2", "#D55E00", "#555555"
_FEW_LINES = 5  # most lines with a legend; more get a colour bar
_MARKED_LEVELS = 24  # with more levels, markers would overlap

_ROUND = [1, 2, 2.5, 5, 10]
_MOST_TICKS, _MOST_LOG_TICKS = 6, 8
_LOG_FROM = 10.0  # ratio of largest to smallest value above which an axis is logarithmic
_MOST_PANELS = 3  # panels of metrics side by side
_PANEL_IN = 2.2, 1.7  # width and height
_LEAST_SHARE = 0.4  # the perfect model is drawn only if the values still fill this share of the axis

_STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": [_FONT, "Verdana", "Arial", "Helvetica"],  # fallbacks for SVGs on machines without it
    "font.size": _TICK_POINTS,
    "axes.labelsize": _LABEL_POINTS,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.linewidth": 1.3,
    "lines.markersize": 3.5,
    "legend.fontsize": _TICK_POINTS,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "ncsnx",
}


@attrs.frozen(kw_only=True)
class ScoreSeries:
    """Scores of checkpoints in the order of their steps; all three of the same length."""

    steps: Sequence[int]
    scores: Sequence[float]
    """NaN or infinity is a gap in the line."""
    errors: Sequence[float | None]
    """Standard errors; None, NaN or infinity means no error bar."""


@attrs.frozen(kw_only=True)
class MetricSeries:
    """Values of one metric for checkpoints in the order of their steps."""

    name: str
    values: Sequence[float | None]
    """None, NaN or infinity is a gap in the line."""
    errors: Sequence[float | None]
    """Standard errors or spreads; None means no error bar."""
    better: Literal["lower", "higher"]
    perfect: float | None
    """Value of a perfect model, drawn as a dashed line; None if it isn't a constant."""


@attrs.frozen(kw_only=True)
class LossSeries:
    """Held-out losses of checkpoints in the order of their steps."""

    steps: Sequence[int]
    means: Sequence[float]
    """Mean over all noise levels, one per step."""
    sigmas: Sequence[float]
    """Noise levels, positive."""
    by_level: Sequence[Sequence[float | None]]
    """Loss at each noise level, one sequence per step; None is a gap."""


def plot_scores(
    stem: Path,
    series: ScoreSeries,
    *,
    metric: str,
    title: str,
    caption: str,
    best: int | None,
    perfect: tuple[float, float] | None,
) -> tuple[Path, Path]:
    """Draws scores against training steps, with error bars, into `stem`.png and `stem`.svg.

    best: index of the best checkpoint, which is marked. perfect: score of a perfect model and its spread, drawn as a
    dashed line in a band of ± one spread. caption: the protocol, below the axes.

    The score axis is logarithmic if scores span more than a factor of ten. Text is taken literally, without
    mathematical notation; control characters are dropped, and characters that the font lacks become □. Equal arguments
    give identical files on one machine.

    Raises:
        NcsnxError: a file can't be written (the folder must exist).
    """
    scores = [_finite(score) for score in series.scores]
    errors = [_finite(error) for error in series.errors]
    with style():
        figure = new_figure(5.0, 3.4, title, caption)
        axes = figure.add_subplot()
        bars = [0.0 if math.isnan(error) else error for error in errors]
        axes.errorbar(series.steps, scores, bars, marker="o", color=_BLUE, ecolor=_BLUE, elinewidth=0.8, capsize=0)
        ends = [score + sign * bar for score, bar in zip(scores, bars, strict=True) for sign in (-1, 1)]
        shows_perfect = _value_axis(axes, scores, ends, perfect)
        _step_axis(axes, series.steps)
        _label_values(axes, _lines_of(metric, 2.1, _LABEL_POINTS, most=3), scores, best)
        handles = [_mark_best(axes, series.steps, scores, errors, best)] if best is not None else []
        if perfect is not None:
            handles.append(_mark_perfect(axes, perfect, shows_perfect))
        _legend_above(axes, handles, 4.2)
        return write(stem, figure)


def plot_metrics(
    stem: Path, steps: Sequence[int], metrics: Sequence[MetricSeries], *, title: str, caption: str
) -> tuple[Path, Path]:
    """Draws metrics against training steps, a panel each, into `stem`.png and `stem`.svg.

    steps: steps of the checkpoints. The value of a perfect model is a dashed line if the axis can include it. For the
    rest see `plot_scores`.

    Raises:
        NcsnxError: a file can't be written (the folder must exist).
    """
    columns = min(len(metrics), _MOST_PANELS)
    rows = -(-len(metrics) // columns)
    with style():
        figure = new_figure(0.3 + _PANEL_IN[0] * columns, 0.9 + _PANEL_IN[1] * rows, title, caption)
        panels = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes in panels[len(metrics) :]:
            axes.remove()
        for axes, metric in zip(panels, metrics, strict=False):
            _draw_metric(axes, steps, metric)
        return write(stem, figure)


def plot_losses(stem: Path, series: LossSeries, *, title: str, caption: str, best: int | None) -> tuple[Path, Path]:
    """Draws mean held-out losses against training steps, and losses per level against σ.

    Writes `stem`.png and `stem`.svg. Lines in the right panel are coloured by step; that of the best checkpoint (index
    `best`) is highlighted. For the rest see `plot_scores`.

    Raises:
        NcsnxError: a file can't be written (the folder must exist).
    """
    means = [_finite(mean) for mean in series.means]
    with style():
        figure = new_figure(7.0, 3.2, title, caption)
        over_steps, over_levels = figure.subplots(1, 2, width_ratios=[1, 1.15])
        over_steps.plot(series.steps, means, marker="o", color=_BLUE)
        _value_axis(over_steps, means, means, None)
        _step_axis(over_steps, series.steps)
        _label_values(over_steps, ["mean held-out loss"], means, best)
        if best is not None:
            nothing = [math.nan] * len(means)
            _legend_above(over_steps, [_mark_best(over_steps, series.steps, means, nothing, best)], 2.5)
        _draw_levels(over_levels, series, best)
        return write(stem, figure)


@contextmanager
def style() -> Iterator[None]:
    """Applies the style of these plots to matplotlib's defaults, independent of the user's and process's settings."""
    from matplotlib import style

    with style.context(["default", _STYLE]):
        yield


def new_figure(width_in: float, height_in: float, title: str, caption: str) -> "Figure":
    """A figure with a title above and a caption below the area for axes.

    Lines of text beyond `_INCLUDED_LINES` add to the height.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), dpi=_DOTS_PER_INCH, layout="constrained")
    blocks = []
    for name, text, points in (("title", title, _TITLE_POINTS), ("caption", caption, _SMALL_POINTS)):
        lines = _lines_of(text, width_in - 2 * _MARGIN_IN, points)
        block = figure.text(_MARGIN_IN / width_in, 0, "\n".join(lines), fontsize=points, parse_math=False)
        block_in = block.get_window_extent(_renderer()).height / _DOTS_PER_INCH if lines else 0.0
        height_in += max(0.0, block_in * (1 - _INCLUDED_LINES[name] / max(len(lines), 1)))
        blocks.append((block, block_in + _MARGIN_IN if lines else 0.0))

    (title_block, above_in), (caption_block, below_in) = blocks
    title_block.set(y=1 - _MARGIN_IN / height_in, verticalalignment="top")
    caption_block.set(y=_MARGIN_IN / height_in, verticalalignment="bottom", color=_GREY)
    figure.set_size_inches(width_in, height_in)
    layout = figure.get_layout_engine()
    assert layout is not None
    free = (0.0, below_in / height_in, 1.0, 1 - (above_in + below_in) / height_in)
    layout.set(rect=free, w_pad=_MARGIN_IN, h_pad=_MARGIN_IN)  # type: ignore[call-arg]  # of the constrained layout
    return figure


def write(stem: Path, figure: "Figure") -> tuple[Path, Path]:
    """Writes the figure as `stem`.png and `stem`.svg. Raises NcsnxError."""
    files = stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.svg")
    for path, metadata in zip(files, ({"Software": "ncsnx"}, {"Creator": "ncsnx", "Date": None}), strict=True):
        content = io.BytesIO()
        figure.savefig(content, format=path.suffix.removeprefix("."), metadata=metadata)
        figure.set_layout_engine("none")  # keep the layout of the first file for the second
        write_bytes(path, content.getvalue())
    return files


# Axes


def _value_axis(
    axes: "Axes",
    values: Sequence[float],
    ends: Sequence[float],
    perfect: tuple[float, float] | None,
    most_ticks: int = _MOST_TICKS,
) -> bool:
    """Sets scale, limits and ticks for `values` and the `ends` of their error bars; returns whether `perfect` fits."""
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    is_log = min(finite) > 0 and max(finite) > _LOG_FROM * min(finite)
    if is_log:
        axes.set_yscale("log", nonpositive="clip")
    inner = [end for end in (*finite, *ends) if math.isfinite(end) and (end > 0 or not is_log)]
    band = () if perfect is None else tuple(perfect[0] + sign * perfect[1] for sign in (-1, 0, 1))
    low, high, shows_band = _span(min(inner), max(inner), band, is_log)
    axes.set_ylim(low, high)
    if is_log:
        set_log_ticks(axes.yaxis, low, high)
    else:
        _set_linear_ticks(axes, low, high, most_ticks)
    return shows_band


def _span(low: float, high: float, band: Sequence[float], is_log: bool) -> tuple[float, float, bool]:
    """The limits of an axis for values from `low` to `high`, and whether they include the band.

    The band is left out if including it would squeeze the values into less than `_LEAST_SHARE` of the axis.
    """
    if is_log:
        low, high = math.log10(low), math.log10(high)
        band = [math.log10(value) for value in band if value > 0]
    shows_band = False
    if band:
        wider = min(low, *band), max(high, *band)
        shows_band = high == low or high - low >= _LEAST_SHARE * (wider[1] - wider[0])
        low, high = wider if shows_band else (low, high)
    pad = 0.07 * (high - low)
    if is_log:
        return 10 ** (low - pad), 10 ** (high + pad), shows_band
    pad = max(pad, 0.005 * max(abs(low), abs(high))) or 1.0
    starts_at_zero = 0.02 * high <= low < 0.6 * high  # closer to zero, the axis would cut markers in half
    return 0.0 if starts_at_zero else low - pad, high + pad, shows_band


def _set_linear_ticks(axes: "Axes", low: float, high: float, most: int) -> None:
    from matplotlib.ticker import MaxNLocator

    ticks = _within(low, high, MaxNLocator(nbins=most, steps=_ROUND).tick_values(low, high))
    axes.set_yticks(ticks, labels=_tick_labels(ticks))


def set_log_ticks(axis: "Axis", low: float, high: float) -> None:
    """Labels as many of 1, 2, 5, 10, 20 … as fit, with minor ticks in between."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)))
    majors = log_ticks(decades, low, high, _MOST_LOG_TICKS)
    minors = _within(low, high, [digit * 10.0**decade for decade in decades for digit in range(1, 10)])
    axis.set_ticks(majors, labels=[f"{tick:,g}" for tick in majors])
    axis.set_ticks(minors, labels=[""] * len(minors), minor=True)


def _step_axis(axes: "Axes", steps: Sequence[int], most_ticks: int = _MOST_TICKS) -> None:
    first, last = min(steps), max(steps)
    pad = 0.04 * (last - first) or max(0.1 * last, 1.0)
    axes.set_xlim(first - pad, last + pad)
    axes.set_xlabel("training steps")
    if len(steps) <= 2:
        axes.set_xticks(list(steps), labels=[f"{step:,}" for step in steps])
    else:
        ticks = _step_ticks(max(first - pad, 0), last + pad, most_ticks)
        axes.set_xticks(ticks, labels=_step_labels(ticks))


def _step_ticks(low: float, high: float, most: int = _MOST_TICKS) -> list[int]:
    from matplotlib.ticker import MaxNLocator

    ticks = MaxNLocator(nbins=most, steps=_ROUND, integer=True).tick_values(low, high)
    return [round(tick) for tick in _within(low, high, ticks)]


def _within(low: float, high: float, ticks: Iterable[float]) -> list[float]:
    return [float(tick) for tick in ticks if low <= tick <= high]


def _label_values(axes: "Axes", lines: Sequence[str], values: Sequence[float], best: int | None) -> None:
    """Labels the value axis, adding "(lower is better)" or "(higher is better)" as the best checkpoint implies."""
    finite = [value for value in values if math.isfinite(value)]
    better = ""
    if best is not None and len(set(finite)) > 1:
        better = {min(finite): "(lower is better)", max(finite): "(higher is better)"}.get(values[best], "")
    axes.set_ylabel("\n".join([*lines, better] if better else lines), parse_math=False)


# Curves, marks and legends


def _mark_best(
    axes: "Axes", steps: Sequence[int], values: Sequence[float], errors: Sequence[float], best: int
) -> "Line2D":
    label = f"best: {with_error(values[best], errors[best])} at step {steps[best]:,}"
    (mark,) = axes.plot(
        [steps[best]],
        [values[best]],
        marker="*",
        markersize=11,
        markeredgecolor="white",
        markeredgewidth=0.6,
        color=_VERMILION,
        linestyle="none",
        label=label,
        zorder=5,
    )
    return mark


def _draw_metric(axes: "Axes", steps: Sequence[int], metric: MetricSeries) -> None:
    values, errors = [_finite(value) for value in metric.values], [_finite(error) for error in metric.errors]
    bars = [0.0 if math.isnan(error) else error for error in errors]
    axes.errorbar(steps, values, bars, marker="o", color=_BLUE, ecolor=_BLUE, elinewidth=0.8, capsize=0)
    ends = [value + sign * bar for value, bar in zip(values, bars, strict=True) for sign in (-1, 1)]
    perfect = None if metric.perfect is None else (metric.perfect, 0.0)
    if _value_axis(axes, values, ends, perfect, most_ticks=4) and metric.perfect is not None:
        axes.axhline(metric.perfect, color=_GREY, linewidth=0.9, linestyle=(0, (4, 2.5)), zorder=1)
    _step_axis(axes, steps, most_ticks=4)
    lines = [*_lines_of(metric.name, _PANEL_IN[0] - 0.2, _TICK_POINTS, most=2), f"({metric.better} is better)"]
    axes.set_title("\n".join(lines), fontsize=_TICK_POINTS, loc="left", parse_math=False)


def _mark_perfect(axes: "Axes", perfect: tuple[float, float], is_shown: bool) -> "Line2D":
    from matplotlib.lines import Line2D

    score, spread = perfect
    label = f"perfect model: {with_error(score, spread)}"
    if is_shown:
        axes.axhspan(score - spread, score + spread, color=_GREY, alpha=0.2, linewidth=0, zorder=0)
        return axes.axhline(score, color=_GREY, linewidth=0.9, linestyle=(0, (4, 2.5)), label=label, zorder=1)
    return Line2D([], [], linestyle="none", label=f"{label}, off the scale")


def _legend_above(axes: "Axes", handles: Sequence["Line2D"], width_in: float) -> None:
    """Puts the legend above the axes, away from the curves; in one row if it fits."""
    if not handles:
        return
    taken_in = sum(0.35 + _width_in(str(handle.get_label()), _TICK_POINTS) for handle in handles)
    axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=len(handles) if taken_in <= width_in else 1,
        borderaxespad=0.3,
        borderpad=0,
        handlelength=1.6,
        handletextpad=0.5,
        columnspacing=1.5,
    )


def _draw_levels(axes: "Axes", series: LossSeries, best: int | None) -> None:
    curves = [[_finite(loss) for loss in losses] for losses in series.by_level]
    colours, scale = _step_colours(series.steps)
    marker = "o" if len(series.sigmas) <= _MARKED_LEVELS else ""
    for index, (step, curve) in enumerate(zip(series.steps, curves, strict=True)):
        look: dict[str, Any] = {"color": colours(scale(step)), "linewidth": 1.0, "markersize": 2.2}
        if index == best:
            look = {"color": _VERMILION, "linewidth": 1.8, "markersize": 3.0, "zorder": 5}
        label = f"step {step:,} (best)" if index == best else f"step {step:,}"
        axes.plot(series.sigmas, curve, marker=marker, label=label, **look)
    every_loss = [loss for curve in curves for loss in curve]
    _value_axis(axes, every_loss, every_loss, None)
    axes.set_ylabel("held-out loss per level")
    axes.set_xscale("log")
    axes.set_xlabel("noise level σ")
    low, high = min(series.sigmas) / 1.25, max(series.sigmas) * 1.25
    axes.set_xlim(low, high)
    set_log_ticks(axes.xaxis, low, high)
    if len(curves) <= _FEW_LINES:
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), handlelength=1.4)
    else:
        _colour_bar(axes, series.steps)
        _legend_above(axes, axes.lines[best : best + 1] if best is not None else [], 2.5)


def _step_colours(steps: Sequence[int]) -> tuple["Colormap", "Normalize"]:
    """Colours from light to dark with the step, also in greyscale; without the palest ones of the map."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap, Normalize

    whole = colormaps["cividis_r"]
    return ListedColormap([whole(0.15 + 0.85 * index / 255) for index in range(256)]), Normalize(min(steps), max(steps))


def _colour_bar(axes: "Axes", steps: Sequence[int]) -> None:
    from matplotlib.cm import ScalarMappable

    colours, scale = _step_colours(steps)
    colour_bar = axes.figure.colorbar(ScalarMappable(scale, colours), ax=axes, pad=0.03, aspect=25)
    ticks = _step_ticks(min(steps), max(steps))
    colour_bar.set_ticks(ticks, labels=_step_labels(ticks))
    colour_bar.set_label("training steps")
    colour_bar.outline.set_visible(False)


# Text and numbers


def _lines_of(text: str, width_in: float, points: float, most: int | None = None) -> list[str]:
    """Drawable text, broken into lines of at most `width_in`; longer words are broken too.

    More than `most` lines are cut, with an ellipsis at the end.
    """
    lines: list[str] = []
    for word in drawable(text).split():
        if lines and _width_in(f"{lines[-1]} {word}", points) <= width_in:
            lines[-1] += f" {word}"
            continue
        rest = word
        while rest:
            count = _characters_within(rest, width_in, points)
            lines.append(rest[:count])
            rest = rest[count:]
    if most is not None and len(lines) > most:
        return [*lines[: most - 1], lines[most - 1][:-1] + "…"]
    return lines


def _characters_within(word: str, width_in: float, points: float) -> int:
    """Number of leading characters of `word` that fit into a width; at least one."""
    counts = range(2, len(word) + 1)
    return 1 + bisect_right(counts, width_in, key=lambda count: _width_in(word[:count], points))


def drawable(text: str) -> str:
    """Text with white space as blanks, without control characters, and with □ for characters that the font lacks.

    Names come from other people. Controls and characters that reorder text would break the plot or its XML; for a
    missing character matplotlib would warn.
    """
    spaced = (" " if character.isspace() else character for character in unicodedata.normalize("NFC", text))
    printed = (character for character in spaced if not unicodedata.category(character).startswith("C"))
    return "".join(character if ord(character) in _characters() else "□" for character in printed)


def _width_in(text: str, points: float) -> float:
    """The width of a line of text in inches."""
    from matplotlib.font_manager import FontProperties

    font = FontProperties(family=_FONT, size=points)
    extent = _renderer().get_text_width_height_descent(text, font, ismath=False)  # type: ignore[no-untyped-call]
    return float(extent[0]) / _DOTS_PER_INCH


@cache
def _renderer() -> "RendererAgg":
    from matplotlib.backends.backend_agg import RendererAgg

    return RendererAgg(1, 1, _DOTS_PER_INCH)  # type: ignore[no-untyped-call]


@cache
def _characters() -> frozenset[int]:
    """Code points of the font's characters."""
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont(_FONT)).get_charmap())


def _finite(value: float | None) -> float:
    return value if value is not None and math.isfinite(value) else math.nan


def _tick_labels(ticks: Sequence[float]) -> list[str]:
    """Labels of equidistant ticks, all with the fewest decimals that are exact."""
    if len(ticks) < 2 or not 1e-5 <= max(map(abs, ticks)) < 1e7:
        return [f"{tick:g}" for tick in ticks]
    apart = ticks[1] - ticks[0]
    decimals = next(
        (count for count in range(12) if all(abs(tick - round(tick, count)) < 1e-3 * apart for tick in ticks)), 12
    )
    return [f"{tick + 0.0:,.{decimals}f}".replace("-", "−") for tick in ticks]


def _step_labels(steps: Sequence[int]) -> list[str]:
    """Labels of step numbers, in thousands (k) or millions (M) if they are large."""
    most = max(steps, default=0)
    unit, letter = (1_000_000, "M") if most >= 1_000_000 else (1_000, "k") if most >= 10_000 else (1, "")
    return [f"{step / unit:,g}{letter}" if step else "0" for step in steps]
