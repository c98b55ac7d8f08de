"""Validators of configuration fields; their messages say what is accepted and what was found.

They check values only. The codec checks types, so a value of another type passes here.
"""

import math
import re
from collections.abc import Callable
from typing import Any

import attrs

from ncsnx.errors import quoted


class FieldError(ValueError):
    """A value that a field doesn't accept.

    complaint: the rest of the sentence that begins with the field's name or path.
    """

    def __init__(self, field: str, complaint: str) -> None:
        super().__init__(f"{field} {complaint}")
        self.field = field
        self.complaint = complaint


def is_whole(value: object) -> bool:
    """Whether a value is an integer (constructors don't check types)."""
    return isinstance(value, int) and not isinstance(value, bool)


@attrs.frozen
class Check:
    """A validator that accepts the values of a kind that pass a test; of a tuple, each item. None passes."""

    words: str
    """Accepted values; {number} stands for the field's numbers."""
    test: Callable[[Any], object]
    kind: Any = int | float

    def accepted(self, attribute: "attrs.Attribute[Any]") -> str:
        """Accepted values of a field, in words."""
        return self.words.format(number="a whole number" if attribute.type is int else "a finite number")

    def __call__(self, instance: Any, attribute: "attrs.Attribute[Any]", value: Any) -> None:
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, self.kind) and not isinstance(item, bool) and not self.test(item):
                # larger numbers are quoted, and cut if they are long
                found = f"{item:,}" if is_whole(item) and abs(item) < 10**18 else quoted(item)
                raise FieldError(attribute.name, f"must be {self.accepted(attribute)}, not {found}")


positive = Check("{number} > 0", lambda value: 0 < value < math.inf)
not_negative = Check("{number} >= 0", lambda value: 0 <= value < math.inf)
finite = Check("{number}", lambda value: abs(value) < math.inf)
fraction = Check("at least 0 and below 1", lambda value: 0 <= value < 1)
positive_fraction = Check("above 0 and at most 1", lambda value: 0 < value <= 1)


def between(low: float, high: float) -> Check:
    """Accepts numbers in [low, high]."""
    return Check(f"between {_bound(low)} and {_bound(high)}", lambda value: low <= value <= high)


def _bound(value: float) -> str:
    """A bound as people write it: '1,000', '1e-6', '1e9'."""
    return f"{value:,}" if is_whole(value) else f"{value:,g}".replace("e-0", "e-").replace("e+0", "e")


def one_of(*accepted: int) -> Check:
    """Accepts the given whole numbers."""
    return Check(" or ".join(map(str, accepted)), accepted.__contains__)


NAME = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""Names of experiments and runs: valid file names on every system."""
name = Check(
    "1 to 100 of the characters A-Z a-z 0-9 . _ -, beginning with a letter or digit and without '..'",
    NAME.fullmatch,
    str,
)
one_line = Check("one line of printable text", str.isprintable, str)
short_ascii = Check("1 to 200 printable ASCII characters", re.compile("[ -~]{1,200}").fullmatch, str)
sha256_hex = Check("a sha256 in hexadecimal", re.compile("[0-9a-f]{64}").fullmatch, str)
plain_word = Check("1 to 64 letters, digits, _ or -", re.compile("[A-Za-z0-9_-]{1,64}").fullmatch, str)

COLORS = {"white": (255, 255, 255), "black": (0, 0, 0), "gray": (128, 128, 128)}
"""Named colors as RGB in 0 … 255."""
_RGB = re.compile("#[0-9a-fA-F]{6}")
color = Check(f"{', '.join(COLORS)} or #rrggbb", lambda value: value in COLORS or _RGB.fullmatch(value), str)
