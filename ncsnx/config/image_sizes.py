"""Sizes of images: one number for squares, the pair (height, width) for rectangles."""

from collections.abc import Sequence
from typing import Any, TypeAlias

from ncsnx.config.checks import is_whole
from ncsnx.quantities import parsed_integer

ImageSize: TypeAlias = int | tuple[int, int]
"""Height and width in pixels: one number if they are equal, else the pair (height, width)."""


def height_and_width(size: ImageSize) -> tuple[int, int]:
    """(height, width) in pixels."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def size_of_sides(sides: Sequence[int]) -> ImageSize:
    """The size with this height and width."""
    height, width = sides
    return height if height == width else (height, width)


def is_image_size(value: object) -> bool:
    """Whether a value is a whole number or a pair of them (constructors don't check types)."""
    return is_whole(value) or (isinstance(value, tuple) and len(value) == 2 and all(map(is_whole, value)))


def as_image_size(value: Any) -> Any:
    """The converter of fields: a pair of equal numbers becomes the one number, so that squares have one form.

    Other values pass unchanged: the codec checks types, and validators check values.
    """
    if isinstance(value, list | tuple) and len(value) == 2 and all(map(is_whole, value)):
        return size_of_sides(value)
    return value


def parsed_size(text: str) -> ImageSize | None:
    """The size of a text such as '64' or '8,12' (height, then width); None for any other text."""
    match [parsed_integer(side) for side in text.split(",")]:
        case [int(side)]:
            return side
        case [int(height), int(width)]:
            return size_of_sides((height, width))
    return None


def size_as_words(size: ImageSize) -> str:
    """A size as on the command line: '64' for squares, '8,12' for height 8 and width 12."""
    height, width = height_and_width(size)
    return str(height) if height == width else f"{height},{width}"


def size_in_words(size: ImageSize) -> str:
    """A size in messages: '64' for squares, '8×12' (height × width) for rectangles."""
    height, width = height_and_width(size)
    return f"{height:,}" if height == width else f"{height:,}×{width:,}"
