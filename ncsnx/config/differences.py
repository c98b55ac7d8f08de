"""What differs between two experiments, value by value."""

from typing import Any

import attrs

from ncsnx.config.codec import flatten, identifying_paths, unstructure
from ncsnx.config.experiment import Experiment

ABSENT = object()
"""Stands for a value that one of the two doesn't have."""


@attrs.frozen
class Difference:
    """One value that isn't the same in both."""

    path: str
    first: Any
    second: Any
    identity: bool
    """Whether it determines the trained weights."""

    def __str__(self) -> str:
        return f"{self.path}: {shown(self.first)} → {shown(self.second)}"


def differences(first: Experiment, second: Experiment) -> list[Difference]:
    """Every value that differs, in the order of the fields; ABSENT where only one has it."""
    ours, theirs = dict(flatten(unstructure(first))), dict(flatten(unstructure(second)))
    identifying = identifying_paths(first) | identifying_paths(second)
    paths = [path for path in dict.fromkeys([*ours, *theirs]) if ours.get(path, ABSENT) != theirs.get(path, ABSENT)]
    return [Difference(path, ours.get(path, ABSENT), theirs.get(path, ABSENT), path in identifying) for path in paths]


def shown(value: Any) -> str:
    """A value as it would be typed: none, true, 50000, 1e-05, adam; — for one that isn't there."""
    if value is ABSENT:
        return "—"
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
