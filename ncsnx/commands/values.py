"""Typed values of parameters, checked before torch is imported. Each function raises UsageError."""

import re
from collections.abc import Sequence
from pathlib import Path

from ncsnx.errors import UsageError, quoted
from ncsnx.paths import checked_folder, checked_name_or_path, checked_path
from ncsnx.quantities import parsed_integer
from ncsnx.spelling import argument, parameter

Size = int | tuple[int, int]


path = checked_path
"""A file or a folder."""
folder = checked_folder
"""A folder, which need not exist yet."""
name_or_path = checked_name_or_path
"""A name, or a path as text."""


def file_behind_tag(text: str) -> str:
    """`TAG` or `TAG:FILE`."""
    tag, colon, file = text.partition(":")
    return f"{tag}:{checked_path(file)}" if colon else text


def size(text: str) -> Size:
    """An image size: 64, or 48,64 for height 48 and width 64."""
    from ncsnx.config.data_sets import LARGEST_SIDE, is_possible_size
    from ncsnx.config.image_sizes import parsed_size

    found = parsed_size(text)
    if found is None or not is_possible_size(found):
        raise UsageError(
            f"expected a size between 1 and {LARGEST_SIDE:,}, such as 64, or height and width, such as 48,64, found "
            f"{quoted(text)}"
        )
    return found


def image_size(given: object) -> Size | None:
    """A size that Python gave; a pair of equal numbers becomes the one number. Raises UsageError for other values."""
    from ncsnx.config.data_sets import LARGEST_SIDE, is_possible_size
    from ncsnx.config.image_sizes import as_image_size, is_image_size

    found: Size | None = as_image_size(given)
    if found is not None and not (is_image_size(found) and is_possible_size(found)):
        raise UsageError(
            f"{parameter('size')} {quoted(given)}: expected a number of pixels, or (height, width), from 1 to "
            f"{LARGEST_SIDE:,}"
        )
    return found


def device(text: str) -> str:
    """A device. Only torch knows whether it exists."""
    if not re.fullmatch("auto|cpu|mps|cuda(:[0-9]{1,3})?", text):
        raise UsageError(f"expected auto, cpu, cuda, cuda:N or mps, found {quoted(text)}")
    return text


def whole(text: str) -> int:
    """A whole number, also as 50_000 or 50k."""
    if (found := parsed_integer(text)) is None:
        raise UsageError(f"must be a whole number, such as 5000 or 5k, not {quoted(text)}")
    return found


def words(given: str | Sequence[str]) -> tuple[str, ...]:
    """Words, or a text with commas between them."""
    return tuple(filter(None, map(str.strip, given.split(",")))) if isinstance(given, str) else tuple(given)


def counts(text: str) -> tuple[int, ...]:
    """Whole numbers with commas between them."""
    return tuple(whole(word.strip()) for word in text.split(","))


def numbers(text: str) -> tuple[float, ...]:
    """Numbers with commas between them."""
    try:
        return tuple(map(float, text.split(",")))
    except ValueError:
        raise UsageError(f"expected numbers with commas, such as 1,1.5,2, found {text[:80]!a}") from None


def corner(text: str) -> tuple[int, int]:
    """X and Y in pixels."""
    typed = text.split(",")
    if len(typed) != 2 or not all(word.strip().isdecimal() and len(word) < 7 for word in typed):
        raise UsageError(f"expected two whole numbers with a comma, such as 2,3, found {text[:80]!a}")
    return int(typed[0]), int(typed[1])


def fraction(text: str, other: str = "") -> float:
    """A number, also as a fraction such as 25/255. other: what else is accepted, for the message."""
    number, _, of = text.partition("/")
    try:
        return float(number) / float(of or 1)
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"expected a number, such as 0.1 or 25/255{other}, found {text[:80]!a}") from None


def noise(text: str) -> float | str:
    """A number as in `fraction`, or auto."""
    return text if text == "auto" else fraction(text, ", or auto")


def require_no_gain(noise: float | str | None, gain: float | None) -> None:
    """Raises UsageError for a gain beside noise that is estimated."""
    if noise == "auto" and gain is not None:
        raise UsageError(
            f"{argument('noise', 'auto')} estimates shot noise too, so it takes no {parameter('gain')}; leave one of "
            "them out"
        )


def mask(text: str) -> Path | tuple[int, int, int, int]:
    """A picture, or a rectangle: four whole numbers with commas, if no file has this name."""
    if not re.fullmatch(r"[0-9]{1,6}(,[0-9]{1,6}){3}", text) or Path(text).exists():
        return path(text)
    left, top, right, bottom = map(int, text.split(","))
    return left, top, right, bottom
