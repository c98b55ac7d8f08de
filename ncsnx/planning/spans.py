"""Spans of time, as people read them."""

from ncsnx.console.text import duration


def span_of_time(seconds: float) -> str:
    """A time for people, in the unit that suits it."""
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 100:
        return f"{seconds:.3g} s"
    return duration(seconds) if seconds < 48 * 3600 else f"{seconds / 86400:,.1f} days"
