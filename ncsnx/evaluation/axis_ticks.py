"""Ticks of logarithmic axes, for every kind of plot."""


def log_ticks(decades: range, low: float, high: float, most: int) -> list[float]:
    """Ticks from `low` to `high`: as many of 1, 2, 5, 10, 20 … as fit, else of 1, 3, 10 …, else powers of ten.

    decades: exponents around the axis, of which some are left out if they are many. most: most ticks.
    """
    decades = decades[:: 1 + len(decades) // most]
    choices = [
        [tick for decade in decades for digit in digits if low <= (tick := digit * 10.0**decade) <= high]
        for digits in ((1, 2, 5), (1, 3), (1,))
    ]
    return next((ticks for ticks in choices if len(ticks) <= most), choices[-1])
