"""Line charts as SVG shapes in CSS classes, so that a page draws them in light and dark colours and on paper."""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property

import attrs

from ncsnx.evaluation.axis_ticks import log_ticks
from ncsnx.quantities import counted, number

_WIDTH, _HEIGHT = 460.0, 270.0
"""Size of the drawing, in its own units: about pixels on a phone."""
_COLOURS = 8
"""Number of styles of lines; further lines repeat them."""
_MOST_POINTS = 400
"""Most points of a line that are drawn."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 12.0, 12.0, 44.0
_LOG_FROM = 10.0  # ratio of largest to smallest value above which an axis is logarithmic
_ROUND = (1.0, 2.0, 2.5, 5.0, 10.0)
_MOST_TICKS = 6


@attrs.frozen
class ChartPoint:
    """A value with its error, if it has one."""

    x: float
    y: float
    error: float | None = None
    hollow: bool = False


@attrs.frozen
class Series:
    """A line, or marks without a line."""

    name: str
    points: tuple[ChartPoint, ...]
    line: bool = True
    marks: bool = False
    dashed: bool = False


@attrs.frozen
class Tick:
    """A position on an axis, in the drawing's units, and its label."""

    place: float
    label: str


@attrs.frozen
class DrawnSeries:
    """A drawn series."""

    name: str
    style: str
    """CSS classes."""
    path: str
    """Path data of the line; empty without a line."""
    bars: str
    """Path data of the error bars."""
    dots: tuple[tuple[str, str, str], ...]
    """(x, y, CSS class) of each mark."""


@attrs.frozen(slots=False)
class Chart:
    """Series over common axes. Only finite points are drawn, on a logarithmic axis only positive ones."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    log_x: bool = False
    log_y: bool | None = None
    """Whether the axis of values is logarithmic; None: if they span more than a factor of ten."""

    @property
    def is_empty(self) -> bool:
        """Whether no point can be drawn."""
        return not any(_finite(one.points) for one in self.series)

    @property
    def description(self) -> str:
        """The chart in words, for those who don't see it."""
        return f"{self.title}: {self.y_label} against {self.x_label}. " + " ".join(
            f"{one.name}: {counted(len(points), 'value')}, from {number(points[0].y)} at {_tick_label(points[0].x)} to "
            f"{number(points[-1].y)} at {_tick_label(points[-1].x)}, "
            f"lowest {number(min(p.y for p in points))}, highest {number(max(p.y for p in points))}."
            for one in self.series
            if (points := _finite(one.points))
        )

    @cached_property
    def x_ticks(self) -> tuple[Tick, ...]:
        """Ticks of the horizontal axis."""
        return tuple(Tick(self._x(value), _tick_label(value)) for value in self._x_axis.ticks)

    @cached_property
    def y_ticks(self) -> tuple[Tick, ...]:
        """Ticks of the vertical axis."""
        return tuple(Tick(self._y(value), _tick_label(value)) for value in self._y_axis.ticks)

    @cached_property
    def shapes(self) -> tuple[DrawnSeries, ...]:
        """The drawn series."""
        return tuple(self._drawn(place, one) for place, one in enumerate(self.series) if _finite(one.points))

    @property
    def box(self) -> dict[str, float]:
        """Edges of the area of the axes and the size of the drawing."""
        edges = {"left": _LEFT, "right": _WIDTH - _RIGHT, "top": _TOP, "bottom": _HEIGHT - _BOTTOM}
        return {**edges, "width": _WIDTH, "height": _HEIGHT, "middle": (_LEFT + _WIDTH - _RIGHT) / 2}

    @cached_property
    def _x_axis(self) -> "_Axis":
        return _Axis.around([point.x for one in self.series for point in _finite(one.points)], log=self.log_x)

    @cached_property
    def _y_axis(self) -> "_Axis":
        points = [point for one in self.series for point in _finite(one.points)]
        values = [point.y for point in points]
        is_wide = min(values) > 0 and max(values) > _LOG_FROM * min(values)
        log = is_wide if self.log_y is None else self.log_y and max(values) > 0
        ends = [point.y + sign * (point.error or 0) for point in points for sign in (-1, 1)]
        return _Axis.around([*values, *(end for end in ends if end > 0 or not log)], log=log)

    def _x(self, value: float) -> float:
        return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * self._x_axis.share(value), 1)

    def _y(self, value: float) -> float:
        return round(_HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * self._y_axis.share(value), 1)

    def _drawn(self, place: int, one: Series) -> DrawnSeries:
        points = [
            point
            for point in _finite(one.points)
            if (point.x > 0 or not self._x_axis.log) and (point.y > 0 or not self._y_axis.log)
        ]
        path = " ".join(f"{self._x(point.x)} {self._y(point.y)}" for point in _thinned(points)) if one.line else ""
        return DrawnSeries(
            one.name,
            f"series s{place % _COLOURS}{' dashed' if one.dashed else ''}",
            f"M{path}" if path else "",
            "".join(
                f"M{self._x(point.x)} {self._y(max(point.y - point.error, self._y_axis.low))}"
                f"V{self._y(min(point.y + point.error, self._y_axis.high))}"
                for point in points
                if point.error
            ),
            tuple(
                (str(self._x(point.x)), str(self._y(point.y)), "dot hollow" if point.hollow else "dot")
                for point in (_thinned(points) if one.marks else [])
            ),
        )


@attrs.frozen
class _Axis:
    low: float
    high: float
    log: bool
    ticks: tuple[float, ...]

    @classmethod
    def around(cls, values: Sequence[float], *, log: bool) -> "_Axis":
        """An axis with some room around the values."""
        values = [value for value in values if value > 0 or not log] or [1.0]
        scale: Callable[[float], float] = math.log10 if log else float
        low, high = scale(min(values)), scale(max(values))
        pad = 0.05 * (high - low) or 0.05 * (abs(low) or 1.0)  # equal values: a little around them
        low, high = low - pad, high + pad
        if not log:
            return cls(low, high, log, _linear_ticks(low, high))
        decades, first, last = range(math.floor(low), math.ceil(high) + 1), 10**low, 10**high
        return cls(first, last, log, tuple(log_ticks(decades, first, last, _MOST_TICKS + 1)))

    def share(self, value: float) -> float:
        """Position of a value, 0 at the low end and 1 at the high end."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def thinned_steps(count: int, most: int) -> list[int]:
    """Places, at most `most` of `count`, evenly spread, with the first and the last."""
    if count <= most:
        return list(range(count))
    return sorted({round(place * (count - 1) / (most - 1)) for place in range(most)})


def _finite(points: Iterable[ChartPoint]) -> list[ChartPoint]:
    return [point for point in points if math.isfinite(point.x) and math.isfinite(point.y)]


def _thinned(points: Sequence[ChartPoint]) -> Sequence[ChartPoint]:
    """The points, or of many the lowest and the highest of each stretch, so that no peak is lost."""
    if len(points) <= _MOST_POINTS:
        return points
    length = math.ceil(len(points) / (_MOST_POINTS // 2))
    kept: list[ChartPoint] = []
    for start in range(0, len(points), length):
        stretch = points[start : start + length]
        ends = {min(stretch, key=lambda p: p.y), max(stretch, key=lambda p: p.y)}
        kept += sorted(ends, key=lambda p: p.x)
    return kept


def _linear_ticks(low: float, high: float) -> tuple[float, ...]:
    rough = (high - low) / _MOST_TICKS
    unit = 10.0 ** math.floor(math.log10(rough))
    step = unit * next(factor for factor in _ROUND if unit * factor >= rough * (1 - 1e-9))
    first = math.ceil(low / step)
    return tuple(number_of * step for number_of in range(first, math.floor(high / step) + 1))


def _tick_label(value: float) -> str:
    if value and abs(value) >= 10_000:
        unit, letter = (1e6, "M") if abs(value) >= 1e6 else (1e3, "k")
        return f"{value / unit:,.6g}{letter}" if abs(value) < 1e12 else f"{value:.3g}"
    return f"{value:,.6g}".replace("-", "−")
