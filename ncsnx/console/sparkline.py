"""Sparklines: the course of a value as a row of small bars in a line of text."""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

BARS = "▁▂▃▄▅▆▇█"
NOT_FINITE = "×"
_MOST_MEANS = 512


class Course:
    """The course of a value over any number of records in bounded memory.

    It keeps means of equally many records each; the last may cover fewer.
    """

    def __init__(self, values: Iterable[float] = ()) -> None:
        self._means: list[float] = []
        self._each = 1
        self._latest = (0.0, 0)  # sum and number of the records since the last mean
        for value in values:
            self.add(value)

    def add(self, value: float) -> None:
        """Adds the value of a record."""
        total, count = self._latest[0] + value, self._latest[1] + 1
        if count < self._each:
            self._latest = total, count
            return
        self._means, self._latest = [*self._means, total / count], (0.0, 0)
        if len(self._means) == _MOST_MEANS:
            self._means = [_mean(self._means[start : start + 2]) for start in range(0, _MOST_MEANS, 2)]
            self._each *= 2

    def means(self) -> list[float]:
        """The means from the first record to the last. Safe to call from another thread."""
        means, (total, count) = self._means, self._latest
        return [*means, total / count] if count else means


def sparkline(values: Sequence[float], width: int) -> str:
    """A line of at most `width` bars, each for the mean of an equal share of the values.

    Scaled from the least to the greatest mean: logarithmically if all are positive, so that a high start doesn't hide
    the rest, else linearly. Means that aren't finite are shown as × and don't affect the scale.
    """
    count = min(len(values), max(width, 0))
    ends = [len(values) * number // count for number in range(count + 1)] if count else []
    shown = [_mean(values[start:end]) for start, end in pairwise(ends)]
    finite = [value for value in shown if math.isfinite(value)]
    if finite and min(finite) > 0:
        shown = [math.log(value) if math.isfinite(value) else value for value in shown]
        finite = [value for value in shown if math.isfinite(value)]
    least, greatest = (min(finite), max(finite)) if finite else (0.0, 0.0)

    def bar(value: float) -> str:
        if not math.isfinite(value):
            return NOT_FINITE
        if greatest == least:
            return BARS[len(BARS) // 2]
        return BARS[round((value - least) / (greatest - least) * (len(BARS) - 1))]

    return "".join(map(bar, shown))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
