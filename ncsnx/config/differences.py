"""Differences between two experiments, value by value."""

from enum import Enum
from typing import Any

import attrs

from ncsnx.config.codec import flatten, identifying_paths, unstructure
from ncsnx.config.experiment import Experiment


class _Absent(Enum):
    ABSENT = "absent"


ABSENT = _Absent.ABSENT
"""Placeholder for a value that one of the two experiments doesn't have; also the same after pickling."""


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
    ours, theirs = dict(flatten(unstructure(first))), dict(flatten(unstructure(second)))
    identifying = identifying_paths(first) | identifying_paths(second)
    paths = [path for path in dict.fromkeys([*ours, *theirs]) if ours.get(path, ABSENT) != theirs.get(path, ABSENT)]
    return [Difference(path, ours.get(path, ABSENT), theirs.get(path, ABSENT), path in identifying) for path in paths]


def shown(value: Any) -> str:
    """A value as it is typed on the command line: none, true, 50000, 1e-05, adam; — for ABSENT."""
    if value is ABSENT:
        return "—"
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
