"""A row of small bars that shows the course of a value in one line of text."""

import math
from collections.abc import Sequence

BARS = "▁▂▃▄▅▆▇█"
NOT_FINITE = "×"


def sparkline(values: Sequence[float], width: int) -> str:
    """One character for each of the last `width` values, scaled linearly from their least to their greatest.

    Values that are not finite are shown as × and don't take part in the scale.
    """
    shown = values[-width:] if width > 0 else ()
    finite = [value for value in shown if math.isfinite(value)]
    least, greatest = (min(finite), max(finite)) if finite else (0.0, 0.0)

    def bar(value: float) -> str:
        if not math.isfinite(value):
            return NOT_FINITE
        if greatest == least:
            return BARS[len(BARS) // 2]
        return BARS[round((value - least) / (greatest - least) * (len(BARS) - 1))]

    return "".join(map(bar, shown))
