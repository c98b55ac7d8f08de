"""Values of options, checked before torch is imported. A bad one is shown in one line, without the usage."""

import re
from collections.abc import Callable
from typing import IO, Any

import typer


class BadValue(typer.BadParameter):
    """A value that isn't accepted: shown in one line, and what to type below it."""

    def show(self, file: IO[Any] | None = None) -> None:
        from ncsnx.console.messages import Messages

        Messages().error(f"{_name(self.param)}: {self.message}" if self.param is not None else self.message)


def a_count(low: int, high: int) -> Callable[[str], int]:
    """The `parser` of a parameter that takes whole numbers from `low` to `high`."""

    def parsed(text: str) -> int:
        if not re.fullmatch("[+-]?[0-9]{1,20}", str(text)) or not low <= (count := int(text)) <= high:
            from ncsnx.config.checks import quoted

            raise BadValue(f"expected a whole number between {low:,} and {high:,}, found {quoted(str(text))}")
        return count

    return parsed


def a_size(text: str) -> "int | tuple[int, int]":
    """The `parser` of an image size: 64, or 48,64 for height 48 and width 64."""
    from ncsnx.config.data_sets import LARGEST_SIDE, is_possible_size
    from ncsnx.config.image_sizes import parsed_size

    size = parsed_size(str(text))
    if size is None or not is_possible_size(size):
        from ncsnx.config.checks import quoted

        raise BadValue(
            f"expected a size between 1 and {LARGEST_SIDE:,}, such as 64, or height and width, such as 48,64, found "
            f"{quoted(str(text))}"
        )
    return size


def a_device(text: str) -> str:
    """The `parser` of --device. Only torch knows whether there is such a device."""
    if not re.fullmatch("auto|cpu|mps|cuda(:[0-9]{1,3})?", text):
        from ncsnx.config.checks import shortened

        raise BadValue(f"expected auto, cpu, cuda, cuda:N or mps, found {shortened(ascii(text))}")
    return text


def a_precision(text: str) -> str:
    """The `parser` of --precision."""
    from typing import get_args

    from ncsnx.config.experiment import Precision

    known = get_args(Precision)
    if text not in known:
        from ncsnx.config.checks import shortened

        raise BadValue(f"expected {', '.join(known[:-1])} or {known[-1]}, found {shortened(ascii(text))}")
    return text


def _name(parameter: Any) -> str:
    """The parameter's name as it is typed: an option with its dashes, an argument as in the usage."""
    name: str = parameter.opts[0]
    return name if name.startswith("-") else parameter.metavar or name
