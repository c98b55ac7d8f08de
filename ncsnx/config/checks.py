"""Validators of configuration fields; their messages say what is accepted and what was found.

They check values only. The codec checks types, so a value of another type passes here.
"""

import math
import re
from typing import Any, Protocol

import attrs

from ncsnx.quantities import counted


class Check(Protocol):
    """Signature of an attrs validator."""

    def __call__(self, instance: Any, attribute: "attrs.Attribute[Any]", value: Any) -> None: ...


class FieldError(ValueError):
    """A value that a field doesn't accept.

    complaint: the rest of the sentence that begins with the field's name or path.
    """

    def __init__(self, field: str, complaint: str) -> None:
        super().__init__(f"{field} {complaint}")
        self.field = field
        self.complaint = complaint


def quoted(value: object) -> str:
    """The value's repr, cut to a length that fits a message."""
    try:
        return shortened(repr(value))
    except ValueError:  # an integer with more digits than Python converts to text
        return "a number of thousands of digits"


def shortened(text: str) -> str:
    """Text of more than 100 characters cut to 80, followed by its length."""
    return text if len(text) <= 100 else f"{text[:80]}… ({counted(len(text), 'character')})"


def printable(text: str) -> str:
    """Text with unprintable characters escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def is_whole(value: object) -> bool:
    """Whether a value is an integer (constructors don't check types)."""
    return isinstance(value, int) and not isinstance(value, bool)


_LARGE = 10**18  # larger numbers are quoted, and cut if they are long


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _refuse(attribute: "attrs.Attribute[Any]", accepted: str, value: Any) -> None:
    found = f"{value:,}" if is_whole(value) and abs(value) < _LARGE else quoted(value)
    raise FieldError(attribute.name, f"must be {accepted}, not {found}")


def _kind(attribute: "attrs.Attribute[Any]") -> str:
    return "a whole number" if attribute.type is int else "a finite number"


def positive(instance: Any, attribute: "attrs.Attribute[Any]", value: Any) -> None:
    """Accepts finite numbers > 0."""
    if _number(value) and not 0 < value < math.inf:
        _refuse(attribute, f"{_kind(attribute)} > 0", value)


def not_negative(instance: Any, attribute: "attrs.Attribute[Any]", value: Any) -> None:
    """Accepts finite numbers >= 0."""
    if _number(value) and not 0 <= value < math.inf:
        _refuse(attribute, f"{_kind(attribute)} >= 0", value)


def finite(instance: Any, attribute: "attrs.Attribute[Any]", value: Any) -> None:
    """Accepts finite numbers."""
    if _number(value) and not math.isfinite(value):
        _refuse(attribute, _kind(attribute), value)


def fraction(instance: Any, attribute: "attrs.Attribute[Any]", value: Any) -> None:
    """Accepts numbers in [0, 1)."""
    if _number(value) and not 0 <= value < 1:
        _refuse(attribute, "at least 0 and below 1", value)


def positive_fraction(instance: Any, attribute: "attrs.Attribute[Any]", value: Any) -> None:
    """Accepts numbers in (0, 1]."""
    if _number(value) and not 0 < value <= 1:
        _refuse(attribute, "above 0 and at most 1", value)


def within(low: float, high: float) -> Check:
    """Accepts finite numbers in [low, high]."""

    def check(instance: Any, attribute: "attrs.Attribute[Any]", value: Any) -> None:
        if _number(value) and not low <= value <= high:
            _refuse(attribute, f"between {_bound(low)} and {_bound(high)}", value)

    return check


def _bound(value: float) -> str:
    """A bound as people write it: '1,000', '1e-6', '1e9'."""
    return f"{value:,g}".replace("e-0", "e-").replace("e+0", "e")


def between(low: int, high: int) -> Check:
    """Accepts numbers in [low, high]."""

    def check(instance: Any, attribute: "attrs.Attribute[Any]", value: Any) -> None:
        if _number(value) and not low <= value <= high:
            _refuse(attribute, f"between {low:,} and {high:,}", value)

    return check


def one_of(*accepted: int) -> Check:
    """Accepts the given whole numbers."""

    def check(instance: Any, attribute: "attrs.Attribute[Any]", value: Any) -> None:
        if _number(value) and value not in accepted:
            _refuse(attribute, " or ".join(map(str, accepted)), value)

    return check


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""Names of experiments and runs: valid file names on every system."""


def name(instance: Any, attribute: "attrs.Attribute[Any]", value: Any) -> None:
    """Accepts names that match NAME, without '..'."""
    if isinstance(value, str) and (not NAME.fullmatch(value) or ".." in value):
        accepted = "1 to 100 of the characters A-Z a-z 0-9 . _ -, beginning with a letter or digit and without '..'"
        _refuse(attribute, accepted, value)


def one_line(instance: Any, attribute: "attrs.Attribute[Any]", value: Any) -> None:
    """Accepts text without control characters."""
    if isinstance(value, str) and not all(character.isprintable() for character in value):
        _refuse(attribute, "one line of printable text", value)


def short_ascii(instance: Any, attribute: "attrs.Attribute[Any]", value: Any) -> None:
    """Accepts 1 to 200 printable ASCII characters."""
    if isinstance(value, str) and not re.fullmatch("[ -~]{1,200}", value):
        _refuse(attribute, "1 to 200 printable ASCII characters", value)


def sha256_hex(instance: Any, attribute: "attrs.Attribute[Any]", value: Any) -> None:
    """Accepts a sha256 in hexadecimal."""
    if isinstance(value, str) and not re.fullmatch("[0-9a-f]{64}", value):
        _refuse(attribute, "a sha256 in hexadecimal", value)


def plain_word(instance: Any, attribute: "attrs.Attribute[Any]", value: Any) -> None:
    """Accepts 1 to 64 letters, digits, _ or -, such as the name of a category."""
    if isinstance(value, str) and not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value):
        _refuse(attribute, "1 to 64 letters, digits, _ or -", value)


COLOURS = {"white": (255, 255, 255), "black": (0, 0, 0), "grey": (128, 128, 128)}
"""Named colours as RGB in 0 … 255."""


def colour(instance: Any, attribute: "attrs.Attribute[Any]", value: Any) -> None:
    """Accepts a name in COLOURS, or #rrggbb."""
    if isinstance(value, str) and value not in COLOURS and not re.fullmatch("#[0-9a-fA-F]{6}", value):
        _refuse(attribute, f"{', '.join(COLOURS)} or #rrggbb", value)


def when_given(check: Check) -> Check:
    """Applies `check` unless the value is None."""

    def optional(instance: Any, attribute: "attrs.Attribute[Any]", value: Any) -> None:
        if value is not None:
            check(instance, attribute, value)

    return optional
