"""How the text of a parameter that names a file or a folder becomes a path: in the same way in every command.

Such a parameter has one of these functions as its `parser`.
"""

from collections.abc import Callable
from typing import TypeVar

from ncsnx.cli.bad_values import BadValue
from ncsnx.errors import UsageError
from ncsnx.paths import typed_folder, typed_name_or_path, typed_path

T = TypeVar("T")


def _parser(parse: Callable[[str], T]) -> Callable[[str], T]:
    def parsed(text: str) -> T:
        try:
            return parse(text)
        except UsageError as error:
            raise BadValue(str(error)) from error

    PARSERS.append(parsed)
    return parsed


def _file_behind_tag(text: str) -> str:
    """`TAG` or `TAG:FILE`."""
    tag, colon, file = text.partition(":")
    return f"{tag}:{typed_path(file)}" if colon else text


PARSERS: list[Callable[[str], object]] = []
"""All of them."""
a_path = _parser(typed_path)
a_folder = _parser(typed_folder)
a_name_or_path = _parser(typed_name_or_path)
a_file_behind_tag = _parser(_file_behind_tag)
