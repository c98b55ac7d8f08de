"""How measured values are put into words, for consoles and plots."""

import math


def number(value: float) -> str:
    """A measured value with four significant digits, and whole from 1,000 on; nan and inf by name."""
    return f"{value:.0f}" if 1_000 <= abs(value) < 1e7 else f"{value:#.4g}"


def with_error(value: float, error: float | None) -> str:
    """A measured value and its standard error, the value to the error's second digit: '8.21 ± 0.30'."""
    if error is None or not math.isfinite(error) or error <= 0 or not math.isfinite(value):
        return number(value)
    if max(abs(value), error) >= 1e7:
        return f"{value:.4g} ± {error:.2g}"
    decimals = 1 - math.floor(math.log10(error))
    shown = max(decimals, 0)
    return f"{round(value, decimals):.{shown}f} ± {round(error, decimals):.{shown}f}"
