"""Alternate timing of two actions, so that changes in the machine's speed affect both."""

import statistics
import time
from collections.abc import Callable

import attrs


@attrs.frozen
class Pair:
    """Medians over the rounds in seconds, and median and spread of the rounds' ratios."""

    first_s: float
    second_s: float
    ratios: tuple[float, ...]

    def __str__(self) -> str:
        low, high = min(self.ratios), max(self.ratios)
        return (
            f"{1000 * self.first_s:9.2f} ms {1000 * self.second_s:9.2f} ms   "
            f"ratio {statistics.median(self.ratios):6.3f}  ({low:.3f} to {high:.3f}, {len(self.ratios)} rounds)"
        )


def timed(action: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def alternate(first: Callable[[], object], second: Callable[[], object], rounds: int, warm_up: int = 1) -> Pair:
    """Times first, second, first, second …; the ratio is first / second."""
    for _ in range(warm_up):
        first(), second()
    times = [(timed(first), timed(second)) for _ in range(rounds)]
    ours, theirs = zip(*times, strict=True)
    return Pair(statistics.median(ours), statistics.median(theirs), tuple(a / b for a, b in times))
