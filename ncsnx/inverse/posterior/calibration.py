"""Calibration: how often the truth lies within the central part of its alternatives, value by value.

If the alternatives are draws from the posterior, then the truth and its n alternatives are exchangeable, so the rank of
the truth among them is uniform on 0 … n, for any n. It lies between the k-th smallest and the k-th largest alternative
with probability 1 − 2k / (n + 1). For the central share c, k is the whole number for which that is nearest to c; it
must be at least 1, so that an interval of share c takes n ≥ 2 / (1 − c) − 1 alternatives.

Where alternatives equal the truth, as where both are black, the rank is any of those that the ties allow, with equal
probability, and what is counted is the probability of the interval: then a calibrated rank is still uniform. Values of
which truth and alternatives are all the same, up to 10⁻⁴ of the range, such as measured pixels, are left out: the rule
treats truth and alternatives alike, so the other ranks stay uniform.

Values of one picture are correlated, so a share's standard error comes from the differences between pictures (the
ratio estimator of cluster sampling, Cochran 1977, Sampling Techniques, section 9A), and is at least that of independent
values.
"""

import io
import math
from typing import Self

import attrs
import numpy as np
from numpy.typing import NDArray

from ncsnx.quantities import counted, percent

LEVELS = (0.5, 0.8, 0.95)
"""Central shares of the alternatives that are reported."""
_SAME = 1e-4
"""Largest spread of values that count as the same, as a fraction of the data's range."""
_MOST_POINTS = 100
_TINY = 1e-9  # above rounding errors of (1 − c)(n + 1) / 2


@attrs.frozen(kw_only=True)
class Interval:
    """The truths within the central part of their alternatives."""

    central: float
    """The central share of the alternatives, such as 0.8."""
    least_alternatives: int
    """Alternatives that such an interval takes."""
    expected: float | None
    """Share of truths within the interval that was used, if alternatives are calibrated; None: too few alternatives."""
    share: float | None
    """Share of truths within it; None for too few alternatives, or no value that varies."""
    error: float | None
    """Standard error of the share; None for fewer than two pictures."""


@attrs.frozen(kw_only=True)
class Calibration:
    """Shares of truths within the central 50, 80 and 95 % of their alternatives, over values of all pictures."""

    alternatives: int
    """n, per picture."""
    pictures: int
    """Pictures with values that vary."""
    values: int
    """Values (pixels times channels) that were compared."""
    left_out: int
    """Values that don't vary, such as measured pixels."""
    intervals: tuple[Interval, ...]

    @property
    def is_known(self) -> bool:
        """Whether the share of at least one interval is known."""
        return any(interval.share is not None for interval in self.intervals)


def least_alternatives(central: float) -> int:
    """The number of alternatives that an interval of this central share takes: 3, 9 and 39 for 50, 80 and 95 %."""
    return math.ceil(2 / (1 - central) - 1 - _TINY)


def order_of(central: float, count: int) -> int | None:
    """k, for the k-th smallest and k-th largest of `count` alternatives; None if they are too few."""
    if count < least_alternatives(central):
        return None
    return max(1, math.ceil((1 - central) * (count + 1) / 2 - 0.5 - _TINY))


@attrs.frozen(eq=False)
class Coverage:
    """Counts of truths within the central intervals, collected part by part."""

    count: int
    """n, the number of alternatives."""
    orders: tuple[int, ...]
    """k of each interval, ascending."""
    inside: NDArray[np.float64]
    """Truths within the intervals, (P, K): probabilities where there are ties."""
    varied: NDArray[np.int64]
    """Values that vary, (P,)."""
    same: NDArray[np.int64]
    """Values that don't, (P,)."""

    @classmethod
    def of(cls, pictures: int, count: int) -> Self:
        """Nothing counted yet, for `count` alternatives of each picture."""
        most = count // 2
        wanted = {k for level in LEVELS if (k := order_of(level, count)) is not None}
        wanted |= {max(1, round(most * part / _MOST_POINTS)) for part in range(1, _MOST_POINTS + 1)} if most else set()
        orders = tuple(sorted(wanted))
        nothing = np.zeros(pictures, np.int64)
        return cls(count, orders, np.zeros((pictures, len(orders))), nothing, nothing.copy())

    def add(self, picture: int, ordered: NDArray[np.float32], truth: NDArray[np.float32], data_range: float) -> None:
        """Counts V values of a picture. ordered: their alternatives, ascending, (V, n); truth: (V,), as sampled."""
        spread = np.maximum(ordered[:, -1], truth) - np.minimum(ordered[:, 0], truth)
        varies = spread > _SAME * data_range
        ordered, truth = ordered[varies], truth[varies]
        below = (ordered < truth[:, None]).sum(axis=1)
        most = (ordered <= truth[:, None]).sum(axis=1)
        for place, k in enumerate(self.orders):
            ranks = np.minimum(most, self.count - k) - np.maximum(below, k) + 1
            self.inside[picture, place] += (ranks.clip(min=0) / (most - below + 1)).sum()
        self.varied[picture] += len(truth)
        self.same[picture] += len(varies) - len(truth)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was counted: there is no truth."""
        return not (self.varied + self.same).any()

    def curve(self) -> NDArray[np.float64]:
        """Expected share, share found and its standard error of each interval, (K, 3); NaN if no value varies."""
        total, pictures = self.varied.sum(), (self.varied > 0).sum()
        expected = 1 - 2 * np.array(self.orders) / (self.count + 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = self.inside.sum(axis=0) / total
            error = np.sqrt(expected * (1 - expected) / total)
            if pictures > 1:
                away = np.square(self.inside - share * self.varied[:, None]).sum(axis=0)
                error = np.maximum(error, np.sqrt(away * pictures / (pictures - 1)) / total)
        return np.stack([expected, share, error], axis=1)

    def result(self) -> Calibration:
        """The calibration of what was counted."""
        values, pictures, curve = int(self.varied.sum()), int((self.varied > 0).sum()), self.curve().tolist()
        intervals = []
        for level in LEVELS:
            k = order_of(level, self.count)
            expected, share, error = (None, None, None) if k is None else curve[self.orders.index(k)]
            intervals.append(
                Interval(
                    central=level,
                    least_alternatives=least_alternatives(level),
                    expected=expected,
                    share=share if values else None,
                    error=error if pictures > 1 else None,
                )
            )
        return Calibration(
            alternatives=self.count,
            pictures=pictures,
            values=values,
            left_out=int(self.same.sum()),
            intervals=tuple(intervals),
        )


CALIBRATION_TITLES = ("central", "expected", "truths inside")


def calibration_rows(calibration: Calibration) -> list[tuple[str, str, str]]:
    """A row of cells for each interval, under `CALIBRATION_TITLES`."""
    return [_row(interval) for interval in calibration.intervals]


def calibration_in_words(calibration: Calibration) -> str:
    """Values that were compared and left out, and the origin of the errors, each on a line."""
    values, pictures = counted(calibration.values, "value"), counted(calibration.pictures, "picture")
    lines = [f"{values} of {pictures}, {counted(calibration.alternatives, 'alternative')} of each"]
    if calibration.left_out:
        lines.append(f"left out: {counted(calibration.left_out, 'value')} in which truth and alternatives are the same")
    if calibration.pictures > 1:
        lines.append("pixels of a picture are correlated, so errors come from the differences between pictures")
    elif calibration.values:
        lines.append("pixels of a picture are correlated, so one picture does not tell the error")
    return "\n".join(lines)


def _row(interval: Interval) -> tuple[str, str, str]:
    central = percent(interval.central)
    if interval.expected is None:
        return central, "", f"needs {counted(interval.least_alternatives, 'alternative')}"
    if interval.share is None:
        return central, _share(interval.expected), "nothing varies"
    error = "" if interval.error is None else f" ± {_share(interval.error)}"
    return central, _share(interval.expected), f"{_share(interval.share)}{error}"


def _share(share: float) -> str:
    return f"{100 * share:.1f} %"


def draw_calibration(calibration: Calibration, curve: NDArray[np.float64]) -> bytes:
    """The plot as a PNG: diagonal, band of ± 2 standard errors around it, and the curve of `Coverage.curve`.

    calibration: with an interval whose share is known.
    """
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    axes = figure.subplots()
    expected, shares, width = np.array([(0, 0, 0), *curve[::-1], (1, 1, 0)]).T
    low, high = (expected - 2 * width).clip(min=0), (expected + 2 * width).clip(max=1)
    axes.fill_between(expected, low, high, alpha=0.3, label="± 2 standard errors")
    axes.plot([0, 1], [0, 1], "k--", label="calibrated")
    axes.plot(expected, shares, label="found")
    axes.set_xlabel("expected share of truths within the central interval")
    axes.set_ylabel("share found")
    axes.set_title(calibration_in_words(calibration), fontsize="small")
    axes.legend()
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()
