"""Text of counts, shares, sizes, durations and measured values, for consoles, plots and model cards; typed integers."""

import math
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal

_HISSING = re.compile("(s|x|ch|sh)$")
_CONSONANT_Y = re.compile("(?<![aeiou])y$")
_INTEGER = re.compile(r"([+-]?[0-9]+(?:_[0-9]+)*(?:\.[0-9]+)?)([kKmM]?)")
_LONGEST_INTEGER = 30  # characters; more than any count or seed has
_UNITS = {"": 1, "k": 1_000, "m": 1_000_000}


def counted(count: float, noun: str) -> str:
    """A count with its noun in the singular or plural: '1 image', '1,498 training images', '0 entries'."""
    if count == 1:
        return f"1 {noun}"
    return f"{count:,.0f} {plural(noun)}"


def listed(names: Sequence[str], most: int = 20, separator: str = ", ") -> str:
    """The first `most` names, and the number of the others: 'a, b, and 3 more'."""
    more = [f"and {len(names) - most:,} more"] if len(names) > most else []
    return separator.join([*names[:most], *more])


def plural(noun: str) -> str:
    """The regular plural of a noun, or of a phrase that ends in one: 'images', 'entries', 'GPUs'. Units stay: 'MiB'."""
    if noun.endswith("B"):
        return noun
    if _CONSONANT_Y.search(noun):
        return f"{noun[:-1]}ies"
    return f"{noun}es" if _HISSING.search(noun) else f"{noun}s"


def them(count: int) -> str:
    """'it' for 1, else 'them'."""
    return "it" if count == 1 else "them"


def parsed_integer(text: str) -> int | None:
    """The whole number in a typed text such as 500, 50_000, 50k or 1.5M; None for any other text."""
    match = _INTEGER.fullmatch(text) if len(text) <= _LONGEST_INTEGER else None
    if match is None or ("." in match[1] and not match[2]):
        return None
    number = Decimal(match[1].replace("_", "")) * _UNITS[match[2].lower()]
    return int(number) if number == number.to_integral_value() else None


def number(value: float) -> str:
    """A measured value with four significant digits, without decimals from 1,000 on; 'nan' and 'inf'."""
    return f"{value:,.0f}" if 999.95 <= abs(value) < 1e7 else f"{value:#.4g}"


def with_error(value: float, error: float | None) -> str:
    """A measured value and its standard error, both to the error's second digit: '8.21 ± 0.30'."""
    if error is None or not math.isfinite(error) or error <= 0 or not math.isfinite(value):
        return number(value)
    if max(abs(value), error) >= 1e7:
        return f"{value:.4g} ± {error:.2g}"
    decimals = 1 - math.floor(math.log10(error))
    shown = max(decimals, 0)
    return f"{round(value, decimals):,.{shown}f} ± {round(error, decimals):,.{shown}f}"


def product(factors: Iterable[object]) -> str:
    """Sizes of axes: '16×24'; 'a single number' without any."""
    return "×".join(map(str, factors)) or "a single number"


def percent(share: float) -> str:
    """A share in [0, 1] as a percentage with two significant digits: '100 %', '22 %', '3.4 %', '0.1 %', '0.033 %'.

    Above 50 % the two digits are those of 1 − share, so that only 1 reads '100 %': '99.96 %'. Shares nearer to
    0 or 1 than 0.001 %, but not equal to it, read '< 0.001 %' or '> 99.999 %'.
    """
    least = 1e-5
    if not 0 < share < 1:
        return f"{100 * share:.0f} %"
    rest = min(share, 1 - share)
    if rest < least:
        return "< 0.001 %" if share < 0.5 else "> 99.999 %"
    decimals = max(0, 1 - math.floor(math.log10(100 * rest)))
    text = f"{100 * share:.{decimals}f}"
    return f"{text.rstrip('0').rstrip('.') if decimals else text} %"


def byte_size(count: int) -> str:
    """Bytes in KiB, MiB or GiB: '482 KiB', '1.3 MiB', '300 MiB', '80.0 GiB'."""
    kibibytes, mebibytes = count / 2**10, count / 2**20
    if mebibytes < 1:
        return f"{kibibytes:.0f} KiB"
    if mebibytes < 10:
        return f"{mebibytes:.1f} MiB"
    return f"{mebibytes:.0f} MiB" if mebibytes < 1_000 else f"{mebibytes / 1_024:,.1f} GiB"


def roughly(seconds: float) -> str:
    """An expected time in one unit: '40 s', '2 min', '1.5 h'."""
    if seconds < 90:
        return f"{max(1, round(seconds, 0 if seconds < 10 else -1)):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3_600:.1f} h"


def duration(seconds: float) -> str:
    """Seconds as h:mm:ss, rounded to the second; hours may exceed 24."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}"
