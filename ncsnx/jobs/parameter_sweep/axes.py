"""The words of a parameter sweep: `model.width=32,64` gives a field several values, `steps=50k` fixes one.

Values are written as for `ncsnx train` and separated by commas. A value that has a comma or begins with a quotation
mark is put in quotation marks, with a backslash before each quotation mark or backslash in it: `note="a,b",c`.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product
from math import prod

import attrs

from ncsnx.config.checks import quoted
from ncsnx.config.overrides import Override, OverrideError
from ncsnx.errors import Hint, UsageError
from ncsnx.quantities import counted
from ncsnx.spelling import parameter

MOST_POINTS = 10_000
"""Most runs of a sweep."""
SEED = "seed"
"""Path of the field whose values are repetitions of one setting."""
_VALUE = re.compile(r'"((?:[^"\\]|\\.)*)"|([^",][^,]*)', re.DOTALL)
_ESCAPED = re.compile(r'\\(["\\])')


@attrs.frozen
class Axis:
    """A field and the values that it takes in turn, as typed."""

    path: str
    texts: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.path}={','.join(map(value_in_quotes, self.texts))}"


def parse_axes(words: Sequence[str]) -> tuple[tuple[Axis, ...], tuple[Override, ...]]:
    """The axes among FIELD=VALUE,… words, and the fields that get one value.

    Raises OverrideError for a word of another form, and for a field or a value that is given twice.
    """
    given: dict[str, tuple[str, ...]] = {}
    for word in words:
        path, equals, text = word.partition("=")
        if not equals or not path:
            raise OverrideError(
                f"{quoted(word)}: expected FIELD=VALUE,VALUE or FIELD=VALUE, such as model.width=32,64 or steps=50k"
            )
        values = split_values(text, path)
        if path in given:
            both = Axis(path, tuple(dict.fromkeys((*given[path], *values))))
            raise OverrideError(f"{path}: given twice", Hint(f"for several values, write {both}"))
        if twice := [value for value, count in Counter(values).items() if count > 1]:
            raise OverrideError(f"{path}: the value {quoted(twice[0])} is given twice")
        given[path] = values
    axes = tuple(Axis(path, values) for path, values in given.items() if len(values) > 1)
    return axes, tuple(Override(path, values[0]) for path, values in given.items() if len(values) == 1)


def split_values(text: str, path: str) -> tuple[str, ...]:
    """The values of a text like `32,64` or `"a,b",c`. path: the field, for errors. Raises OverrideError."""
    if text == "":
        return ("",)
    values, place = list[str](), 0
    while True:
        match = _VALUE.match(text, place)
        if match is None:
            what = "a quotation mark is not closed" if text.startswith('"', place) else "a value is missing"
            remedy = Hint(
                "separate values by single commas, without spaces; write an empty value as two quotation marks"
            )
            raise OverrideError(f"{path}: {what} in {quoted(text)}", remedy)
        values.append(match[2] if match[1] is None else _ESCAPED.sub(r"\1", match[1]))
        place = match.end()
        if place == len(text):
            return tuple(values)
        if text[place] != ",":
            raise OverrideError(f"{path}: expected a comma after the closing quotation mark in {quoted(text)}")
        place += 1


def value_in_quotes(text: str) -> str:
    """A value as `split_values` reads it back, in quotation marks where it needs them."""
    if text and "," not in text and not text.startswith('"'):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def combinations(axes: Sequence[Axis], *, zipped: bool, seeds: Sequence[int]) -> Iterator[tuple[Override, ...]]:
    """The overrides of each point: every combination of the axes' values or, `zipped`, the first values, the second
    ones and so on; each with every one of `seeds`, if there are any.

    Raises UsageError for axes of different lengths that are zipped, and for more than MOST_POINTS points.
    """
    lengths = [len(axis.texts) for axis in axes]
    if zipped and len(set(lengths)) > 1:
        found = ", ".join(f"{axis.path} has {len(axis.texts)}" for axis in axes)
        raise UsageError(
            f"{parameter('zip')} takes one value of each field at a time, so all need the same number: {found}"
        )
    count = (lengths[0] if zipped and lengths else prod(lengths)) * max(1, len(seeds))
    if count > MOST_POINTS:
        raise UsageError(
            f"these values make {counted(count, 'run')}, and a sweep has {MOST_POINTS:,} at most",
            Hint("give fewer values, or make several sweeps"),
        )
    choices = [[Override(axis.path, text) for text in axis.texts] for axis in axes]
    rows = zip(*choices, strict=True) if zipped and choices else product(*choices)
    repeated: list[tuple[Override, ...]] = [(Override(SEED, str(seed)),) for seed in seeds] or [()]
    return ((*row, *seed) for row in rows for seed in repeated)
