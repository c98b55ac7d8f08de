"""Differences between experiments, value by value."""

from enum import Enum
from typing import Any

import attrs

from ncsnx.config.codec import flatten, identifying_paths, unstructure
from ncsnx.config.experiment import Experiment


class _Absent(Enum):
    ABSENT = "absent"


ABSENT = _Absent.ABSENT
"""Placeholder for a value that an experiment doesn't have; also the same after pickling."""


@attrs.frozen
class Difference:
    """A value that differs between two experiments."""

    path: str
    """Dotted path of the value."""
    first: Any
    second: Any
    identity: bool
    """Whether the value determines the trained weights."""

    def __str__(self) -> str:
        return f"{self.path}: {shown(self.first)} → {shown(self.second)}"


def differences(first: Experiment, second: Experiment) -> list[Difference]:
    """Every value that differs, in the order of the fields; ABSENT for a value that only one experiment has."""
    return [Difference(path, ours, theirs, identity) for path, (ours, theirs), identity in differing(first, second)]


def differing(*experiments: Experiment) -> list[tuple[str, list[Any], bool]]:
    """(path, value in each experiment, whether it determines the trained weights) as in `differences`."""
    columns = [dict(flatten(unstructure(one))) for one in experiments]
    identifying = set[str]().union(*map(identifying_paths, experiments))
    paths = dict.fromkeys(path for column in columns for path in column)
    rows = ((path, [column.get(path, ABSENT) for column in columns], path in identifying) for path in paths)
    return [(path, values, identity) for path, values, identity in rows if any(one != values[0] for one in values)]


def shown(value: Any) -> str:
    """A value as it is typed on the command line: none, true, 50000, 1e-05, adam; — for ABSENT."""
    if value is ABSENT:
        return "—"
    if value is None:
        return "none"
    if isinstance(value, list | tuple):
        return ",".join(map(shown, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
