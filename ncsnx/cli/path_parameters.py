"""Parsers of parameters that name a file or a folder: such a parameter has one of these functions as its `parser`."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ncsnx.cli.bad_values import BadValue

T = TypeVar("T")
PARSERS: list[Callable[[str], object]] = []
"""All parsers of this module."""


def _parser(parse: Callable[[str], T]) -> Callable[[str], T]:
    def parsed(text: str) -> T:
        from ncsnx.errors import UsageError

        try:
            return parse(text)
        except UsageError as error:
            raise BadValue(str(error)) from error

    PARSERS.append(parsed)
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
