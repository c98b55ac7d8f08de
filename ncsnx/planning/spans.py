"""Durations as users type and read them."""

import re

from ncsnx.config.checks import shortened
from ncsnx.errors import UsageError
from ncsnx.quantities import duration
from ncsnx.spelling import parameter

_TIME = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_LONGEST_S = 366 * 86_400


def parse_budget(text: str) -> float | None:
    """Seconds of a duration such as 90s, 30m, 2h or 1d; None for 'none'. Raises UsageError for anything else."""
    if text == "none":
        return None
    match = _TIME.fullmatch(text)
    if match is None or not 1 <= (seconds := float(match[1]) * _UNITS[match[2]]) <= _LONGEST_S:
        raise UsageError(
            f"{parameter('budget')} {shortened(text)}: expected a time such as 90s, 30m, 2h or 1d (at most a year), or "
            "none for the published training"
        )
    return seconds


def in_short(seconds: float) -> str:
    """Seconds in the form of `parse_budget`, rounded up to two digits: 90s, 12m, 2.5h, 3d."""
    unit = next(unit for unit in ("d", "h", "m", "s") if _suits(seconds, _UNITS[unit]))
    value = seconds / _UNITS[unit]
    shown = float(f"{value:.1e}")
    if shown < value:
        shown = float(f"{value * 1.05:.1e}") if value < 10 else float(int(value) + 1)
    return f"{shown:g}{unit}"


def _suits(seconds: float, unit_s: int) -> bool:
    return unit_s == 1 or seconds >= 2 * unit_s or (seconds >= unit_s and seconds % unit_s == 0)


def span_of_time(seconds: float) -> str:
    """A duration in a suitable unit: '12 ms', '3.4 s', '1:02:03', '3.5 days'."""
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 100:
        return f"{seconds:.3g} s"
    return duration(seconds) if seconds < 48 * 3600 else f"{seconds / 86400:,.1f} days"
