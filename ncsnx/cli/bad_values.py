"""Values of options, checked before torch is imported; one that isn't accepted gets one line instead of the usage."""

import re
from collections.abc import Callable
from typing import IO, Any

import typer

from ncsnx.config.checks import quoted, shortened


class BadValue(typer.BadParameter):
    """A value that isn't accepted, shown in one line."""

    def show(self, file: IO[Any] | None = None) -> None:
        from ncsnx.console.messages import Messages

        Messages().error(f"{_name(self.param)}: {self.message}" if self.param is not None else self.message)


def a_count(low: int, high: int) -> Callable[[str], int]:
    """The `parser` of a parameter that takes whole numbers from `low` to `high`."""

    def parsed(text: str) -> int:
        if not re.fullmatch("[+-]?[0-9]{1,20}", str(text)) or not low <= (count := int(text)) <= high:
            raise BadValue(f"expected a whole number between {low:,} and {high:,}, found {quoted(str(text))}")
        return count

    return parsed


def a_device(text: str) -> str:
    """The `parser` of --device: whether there is such a device is known once torch is imported."""
    if not re.fullmatch("auto|cpu|mps|cuda(:[0-9]{1,3})?", text):
        raise BadValue(f"expected auto, cpu, cuda, cuda:N or mps, found {shortened(ascii(text))}")
    return text


def _name(parameter: Any) -> str:
    """What a person calls it: an option by its dashes, an argument as the usage does."""
    name: str = parameter.opts[0]
    return name if name.startswith("-") else parameter.metavar or name
