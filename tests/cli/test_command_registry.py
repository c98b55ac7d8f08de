"""Commands by name, and what a command's fields declare."""

from typing import Annotated, Any

import attrs
import pytest

from ncsnx.commands.command import (
    OUTPUT_PANEL,
    Command,
    argument,
    as_function,
    built_in_command,
    option,
    parameters_of,
)
from ncsnx.errors import UsageError
from ncsnx.results import Result
from ncsnx.work import Work
from tests.cli.command import run


@attrs.frozen
class Doubled(Result):
    value: int


@attrs.frozen(slots=False, kw_only=True, eq=False)
class Double(Command[Doubled]):
    """Doubles a number."""

    number: Annotated[int, argument("N")] = attrs.field(kw_only=False)
    """Number to double."""
    most: Annotated[int, option(OUTPUT_PANEL, "M", between=(1, 9))] = 9
    """Largest number."""
    hidden: bool = False
    """A field for Python alone."""

    def carry_out(self, work: Work) -> Doubled:
        return Doubled(2 * min(self.number, self.most))


@pytest.mark.parametrize("name", ["import_", "__init__", "groups"])
def test_a_name_that_is_no_command_is_none(name: str) -> None:
    assert built_in_command(name) == []
    result = run(name, "digits")
    assert result.code == 2
    assert f"No such command '{name}'" in result.err


def test_a_command_is_a_function_of_its_fields_in_python() -> None:
    double: Any = as_function(Double)
    assert double(4).value == 8
    assert double(4, most=3).value == 6
    assert "number: Number to double." in double.__doc__
    assert list(double.__signature__.parameters) == ["number", "most", "hidden", "progress"]
    with pytest.raises(TypeError, match="unexpected keyword argument 'least'"):
        double(4, least=1)
    with pytest.raises(UsageError, match="most must be between 1 and 9, not 10"):
        double(4, most=10)
    typed = {one.name: one.options for one in parameters_of(Double)}
    assert typed == {"number": (), "most": ("--most",)}, "a field without a declaration is Python's alone"
