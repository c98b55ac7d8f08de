"""Values of options and arguments, checked before torch is imported: each function is a Typer `parser`."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import typer

T = TypeVar("T")


def _parser(parse: Callable[[str], T]) -> Callable[[str], T]:
    """The parser as Typer takes it: a UsageError becomes its BadParameter."""

    def parsed(text: str) -> T:
        from ncsnx.errors import UsageError

        try:
            return parse(text)
        except UsageError as error:
            raise typer.BadParameter(str(error)) from error

    return parsed


@_parser
def a_path(text: str) -> Path:
    """A file or a folder."""
    from ncsnx.paths import typed_path

    return typed_path(text)


@_parser
def a_folder(text: str) -> Path:
    """A folder, which need not exist yet."""
    from ncsnx.paths import typed_folder

    return typed_folder(text)


@_parser
def a_name_or_path(text: str) -> str:
    """A name, or a path as text."""
    from ncsnx.paths import typed_name_or_path

    return typed_name_or_path(text)


@_parser
def a_file_behind_tag(text: str) -> str:
    """`TAG` or `TAG:FILE`."""
    from ncsnx.paths import typed_path

    tag, colon, file = text.partition(":")
    return f"{tag}:{typed_path(file)}" if colon else text


@_parser
def a_size(text: str) -> int | tuple[int, int]:
    """An image size: 64, or 48,64 for height 48 and width 64."""
    from ncsnx.config.checks import quoted
    from ncsnx.config.data_sets import LARGEST_SIDE, is_possible_size
    from ncsnx.config.image_sizes import parsed_size
    from ncsnx.errors import UsageError

    size = parsed_size(str(text))
    if size is None or not is_possible_size(size):
        raise UsageError(
            f"expected a size between 1 and {LARGEST_SIDE:,}, such as 64, or height and width, such as 48,64, found "
            f"{quoted(str(text))}"
        )
    return size


@_parser
def a_device(text: str) -> str:
    """A device. Only torch knows whether it exists."""
    from ncsnx.config.checks import quoted
    from ncsnx.errors import UsageError

    if not re.fullmatch("auto|cpu|mps|cuda(:[0-9]{1,3})?", text):
        raise UsageError(f"expected auto, cpu, cuda, cuda:N or mps, found {quoted(text)}")
    return text
